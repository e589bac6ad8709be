"""Our search of one slide against TIAToolbox's semantic segmentor: same weights, slide, tissue and map.

Both search the tissue of a made slide at its full resolution for the probability of a mitosis, one map pixel
for each of the network's output, on the CPU and in turns. Where the tissue is need not be
found: both are told. Processor time is that of the process and of all that it started and ended.

Ours includes: starting the reader processes, folding the network, planning windows, reading, network, peaks,
outlines, classifier, merging; once without and once with the map, 8 bits a pixel, written as the pyramidal
OME-TIFF of ``--heatmap``. Precision is ``auto``, everything else what ``annotate`` takes by itself.

TIAToolbox's includes: making engine and data loader, choosing windows, reading (by what its ``WSIReader``
opens the slide with, in its workers), network, merging, the map as its zarr of floats. It finds no objects.

It has its best of a sweep on a smaller slide: side of the windows (with the halo that the model records on
each side), batch, workers, and how the network runs (fp32; autocast to bf16; either compiled, with weights
frozen). Compiling, loading the model and a run that is not measured come before the clock starts. It is also
given what it does not do by itself: the 2 x 2 averaging before the network is done in its workers, predicted
classes are not computed, the map is laid out in the network's pixels and windows are taken by their cores.

Two more, each otherwise with the same setting. ``as it comes``: without the last two, so a map in the slide's
pixels, and windows that touch the tissue with their halo. ``our folded network``: it runs what we run, bf16
with normalisation folded in, so that engines alone differ.

Maps are compared in fp32 on both sides, and as timed, on the tissue further from glass than the halo: all of
it, and where no window of either ends near. The first says how much windows matter, the second is the proof
that both read and compute the same.

Needs TIAToolbox 2.1 beside this package; python is that of the environment with both:

    PYTHONPATH=. python benchmarks/tiatoolbox_engine.py [--side 24576] [--sweep-side 10240] [--rounds 3]
"""

if __name__ == "__main__":
    # Reader processes import this file anew: what it imports at its top, they would wait for.
    from tiatoolbox_parts import main

    main()
