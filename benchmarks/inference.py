"""How fast whole slides are searched, against what the network, the decoder and the disk alone would need.

A slide is made from real tiles by mirroring; everything that is compared runs in turns in one go. On a busy
machine the ratios of processor time say more than those of wall time: both are printed.

    ./run bench inference [--side 24576] [--rounds 3]
        [--parts speed,network,students,accuracy,reading,geojson,memory]
"""

if __name__ == "__main__":
    # Reader processes import this file anew: what it imports at its top, they would wait for.
    from inference_parts import main

    main()
