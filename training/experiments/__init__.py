"""The experiments as code: plans (TOML), runs that resume, results (CSV), tables and figures of them."""
