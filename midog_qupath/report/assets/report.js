"use strict";
// Tables and galleries from the JSON in the page. Text only ever becomes text (textContent), never HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const said = document.getElementById("said");
  const ROWS = 50, CARDS = 48;

  function make(tag, properties = {}, children = []) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in node && !name.includes("-")) node[name] = value;
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  const field = (text, input) => make("label", {}, [text, input]);
  const choice = (options) =>
    make("select", {}, options.map(([value, text]) => make("option", { value, textContent: text })));
  const count = (n, what) => `${n.toLocaleString("en")} ${what}`;

  function later(work) {
    let timer;
    return () => { clearTimeout(timer); timer = setTimeout(work, 120); };
  }

  // ---- copying ------------------------------------------------------------------------------------

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Browsers that keep the clipboard from files: the old way.
      const area = make("textarea", { value: text, readOnly: true });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    said.textContent = `Copied ${text}`;
  }

  function copyButton(x, y, where) {
    const button = make("button", { type: "button", textContent: "Copy", "aria-label": `Copy the place ${where}` });
    button.addEventListener("click", async () => {
      const script = document.querySelector('input[name="copy-as"]:checked')?.value === "script";
      await copy(script ? `getCurrentViewer().setCenterPixelLocation(${x}, ${y})` : `${x}, ${y}`);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1200);
    });
    return button;
  }

  // ---- pages --------------------------------------------------------------------------------------

  function pager(size, what, show) {
    let page = 0, total = 0;
    const place = make("span");
    const first = make("button", { type: "button", textContent: "First" });
    const back = make("button", { type: "button", textContent: "Back" });
    const next = make("button", { type: "button", textContent: "Next" });
    const last = make("button", { type: "button", textContent: "Last" });
    const node = make("div", { className: "pager" }, [first, back, place, next, last]);
    const pages = () => Math.max(1, Math.ceil(total / size));
    function turn(to) {
      page = Math.min(Math.max(to, 0), pages() - 1);
      first.disabled = back.disabled = page === 0;
      next.disabled = last.disabled = page === pages() - 1;
      place.textContent = `Page ${page + 1} of ${pages()}, ${count(total, what)}`;
      show(page * size, Math.min(total, (page + 1) * size));
    }
    first.addEventListener("click", () => turn(0));
    back.addEventListener("click", () => turn(page - 1));
    next.addEventListener("click", () => turn(page + 1));
    last.addEventListener("click", () => turn(pages() - 1));
    return { node, reset(n) { total = n; turn(0); } };
  }

  // Nothing last, numbers by size, text as people sort it.
  const collator = new Intl.Collator("en", { numeric: true });
  function compare(a, b, up) {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" ? a - b : collator.compare(a, b);
    return up ? order : -order;
  }

  // ---- tables -------------------------------------------------------------------------------------

  function table(holder) {
    const { columns, rows, place } = data.tables[holder.dataset.table];
    const caption = holder.dataset.caption;
    const searched = rows.map((row) => row.filter((cell) => typeof cell === "string").join("\n").toLowerCase());
    let kept = rows.map((_, index) => index), sorted = null, up = true;
    const body = make("tbody");
    const heads = columns.map((column, index) => {
      const button = make("button", { type: "button", textContent: column.head });
      const head = make("th", { scope: "col", className: column.digits === null ? "" : "n", "aria-sort": "none" }, [button]);
      button.addEventListener("click", () => {
        up = sorted === index ? !up : column.digits === null;
        sorted = index;
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        fill();
        said.textContent = `Sorted by ${column.head}, ${up ? "ascending" : "descending"}`;
      });
      return head;
    });
    const extra = place ? [make("th", { scope: "col", textContent: "place" })] : [];
    const words = make("input", { type: "search" });
    const number = columns.map((column, index) => [String(index), column.head]).filter((_, i) => columns[i].digits !== null);
    const which = choice([["", "any number"], ...number]);
    const least = make("input", { type: "number", step: "any" });
    const most = make("input", { type: "number", step: "any" });
    const pages = pager(ROWS, "rows", (from, to) => body.replaceChildren(...kept.slice(from, to).map(line)));

    function cell(value, column) {
      if (value === null) return "–";
      return typeof value === "number" ? value.toFixed(column.digits ?? 0) : value;
    }
    function line(index) {
      const row = rows[index];
      const cells = columns.map((column, i) =>
        make(i === 0 ? "th" : "td", {
          className: column.digits === null ? "" : "n", textContent: cell(row[i], column), ...(i === 0 && { scope: "row" }),
        }));
      if (place) {
        const [image, x, y] = place.map((at) => row[at]);
        cells.push(make("td", {}, [copyButton(x, y, `${x}, ${y} in ${image}`)]));
      }
      return make("tr", {}, cells);
    }
    function fill() {
      const text = words.value.trim().toLowerCase();
      const of = which.value === "" ? null : Number(which.value);
      const low = least.value === "" ? -Infinity : Number(least.value);
      const high = most.value === "" ? Infinity : Number(most.value);
      kept = rows.map((_, index) => index).filter((index) =>
        searched[index].includes(text) &&
        (of === null || (rows[index][of] !== null && rows[index][of] >= low && rows[index][of] <= high)));
      if (sorted !== null) kept.sort((a, b) => compare(rows[a][sorted], rows[b][sorted], up));
      pages.reset(kept.length);
    }
    for (const input of [words, which, least, most]) input.addEventListener("input", later(fill));
    holder.append(
      make("div", { className: "controls" }, [
        field("Filter by words", words), field("and by", which), field("from", least), field("to", most),
      ]),
      make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": caption }, [
        make("table", {}, [
          make("caption", { className: "sr", textContent: caption }),
          make("thead", {}, [make("tr", {}, [...heads, ...extra])]), body,
        ]),
      ]),
      pages.node,
    );
    fill();
  }

  // ---- galleries ----------------------------------------------------------------------------------

  const probability = (value) => (value === null ? "not known" : value.toFixed(2));

  function card([image, x, y, label, certainty, atypical, picture]) {
    const name = data.images[image];
    const where = `${x}, ${y} in ${name}`;
    const lines = [make("b", { textContent: label }), `certainty ${probability(certainty)}`];
    if (atypical !== null) lines.push(make("br"), `atypical ${probability(atypical)}`);
    lines.push(make("br"), name, make("br"), `${x}, ${y}`, make("br"), copyButton(x, y, where));
    const alt = `${label}, certainty ${probability(certainty)}, at ${where}`;
    return make("li", {}, [make("img", { src: picture, alt, width: 96, height: 96 }), make("div", {}, lines)]);
  }

  const ORDERS = {
    falling: ["most certain first", (a, b) => compare(a[4], b[4], false)],
    rising: ["least certain first", (a, b) => compare(a[4], b[4], true)],
    atypical: ["most probably atypical first", (a, b) => compare(a[5], b[5], false)],
    image: ["by image", (a, b) => a[0] - b[0] || a[2] - b[2] || a[1] - b[1]],
  };

  function gallery(holder) {
    const spots = data.galleries[holder.dataset.gallery];
    const title = holder.dataset.title;
    if (!spots.length) {
      holder.append(make("p", { textContent: "None." }));
      return;
    }
    let kept = spots;
    const cards = make("ul", { className: "cards", "aria-label": title });
    const words = make("input", { type: "search" });
    const least = make("input", { type: "number", min: "0", max: "1", step: "0.05" });
    const most = make("input", { type: "number", min: "0", max: "1", step: "0.05" });
    const labels = [...new Set(spots.map((spot) => spot[3]))].sort();
    const label = choice([["", "all"], ...labels.map((text) => [text, text])]);
    const order = choice(Object.entries(ORDERS).map(([key, [text]]) => [key, text]));
    const pages = pager(CARDS, "pictures", (from, to) => cards.replaceChildren(...kept.slice(from, to).map(card)));

    function fill() {
      const text = words.value.trim().toLowerCase();
      const low = least.value === "" ? null : Number(least.value);
      const high = most.value === "" ? null : Number(most.value);
      kept = spots.filter((spot) =>
        data.images[spot[0]].toLowerCase().includes(text) &&
        (label.value === "" || spot[3] === label.value) &&
        (low === null || (spot[4] !== null && spot[4] >= low)) &&
        (high === null || (spot[4] !== null && spot[4] <= high)));
      kept.sort(ORDERS[order.value][1]);
      pages.reset(kept.length);
    }
    const controls = [field("Image", words), field("Certainty from", least), field("to", most), field("Order", order)];
    if (labels.length > 1) controls.splice(1, 0, field("Kind", label));
    for (const input of [words, least, most, label, order]) input.addEventListener("input", later(fill));
    holder.append(make("div", { className: "controls" }, controls), cards, pages.node);
    fill();
  }

  for (const holder of document.querySelectorAll("[data-table]")) table(holder);
  for (const holder of document.querySelectorAll("[data-gallery]")) gallery(holder);
})();
