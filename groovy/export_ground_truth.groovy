/*
 * Writes what people drew in an image to <project>/midog-qupath/ground-truth/<image>.geojson, where
 * midog-qupath reads it: midog-qupath export PROJECT --store sidecar.
 *
 * One image: Run. All images: "Run for project (without saving)". Save open images first: QuPath runs on what
 * is saved. An image without annotations gets a file without features, which says that it was looked at.
 *
 * Written are all annotations, and those detections of midog-qupath that a person changed: another class or
 * shape, a name, or the measurement 'Reviewed'. Detections that nobody touched are no ground truth. The file
 * also says to which image it belongs: entry id, size in pixels, microns per pixel.
 *
 * QuPath 0.5 to 0.7.
 */
import static qupath.lib.scripting.QP.*

import java.nio.file.Files
import java.nio.file.StandardCopyOption
import com.google.gson.JsonObject
import org.locationtech.jts.algorithm.distance.DiscreteHausdorffDistance
import org.locationtech.jts.geom.Geometry
import org.locationtech.jts.io.WKTReader
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO

def project = getProject()
def entry = getProjectEntry()
if (project == null || entry == null)
    throw new IllegalStateException('Open an image of a project first.')

def ours = project.getPath().getParent().resolve('midog-qupath')
def objects = taught(getCurrentImageData().getHierarchy(), writtenObjects(readRuns(ours)))
def folder = Files.createDirectories(ours.resolve('ground-truth'))
def file = folder.resolve(fileStems(project)[entry.getID()] + '.geojson')
// First beside it: a reader never sees half a file.
def fresh = folder.resolve(file.getFileName().toString() + '.tmp')
writeObjects(fresh, objects, aboutImage(entry, metadataOf(getCurrentImageData())))
Files.move(fresh, file, StandardCopyOption.REPLACE_EXISTING)
println "${entry.getImageName()}: ${objects.size()} objects in ${file}"


/* All annotations, and the detections of midog-qupath that a person changed or reviewed. */
List taught(hierarchy, written) {
    return hierarchy.getAnnotationObjects().toList() + hierarchy.getDetectionObjects().findAll { standing(it, written) == 'touched' }
}

/* Size and pixel size of an image; since 0.6 QuPath knows them without opening the slide. */
Object metadataOf(imageData) {
    def lazy = imageData.metaClass.respondsTo(imageData, 'getServerMetadata')
    return lazy ? imageData.getServerMetadata() : imageData.getServer().getMetadata()
}

/* Which image it is: id in the project, size in pixels, microns per pixel (null where nobody knows). */
JsonObject aboutImage(entry, metadata) {
    def pixel = metadata.getPixelCalibration()
    def about = new JsonObject()
    about.addProperty('entry_id', entry.getID())
    about.addProperty('image', entry.getImageName())
    about.addProperty('width', metadata.getWidth())
    about.addProperty('height', metadata.getHeight())
    about.addProperty('mpp', pixel.hasPixelSizeMicrons() ? pixel.getAveragedPixelSizeMicrons() : null)
    return about
}

/* A FeatureCollection as QuPath writes it, with one member more. */
void writeObjects(file, objects, about) {
    def bytes = new ByteArrayOutputStream()
    PathIO.exportObjectsAsGeoJSON(bytes, objects, PathIO.GeoJsonExportOptions.FEATURE_COLLECTION)
    def whole = GsonTools.getInstance().fromJson(bytes.toString('UTF-8'), JsonObject)
    whole.add('midog_qupath', about)
    file.toFile().setText(GsonTools.getInstance().toJson(whole), 'UTF-8')
}

/* File names without ending by entry id, as midog-qupath makes them. */
Map fileStems(project) {
    def stems = [:]
    project.getImageList().each { image ->
        def stem = image.getOriginalImageName().replaceFirst(/(?<=.)\.[A-Za-z0-9]{1,8}$/, '')
        stem = stem.replaceAll('[<>:"/\\\\|?*\\x00-\\x1f]', '_').replaceAll(/^[ .]+|[ .]+$/, '') ?: 'image'
        stems[image.getID()] = stem ==~ /(?i)con|prn|aux|nul|com\d|lpt\d/ ? stem + '_' : stem
    }
    while (true) {
        def counts = stems.values().countBy { it.toLowerCase() }
        if (counts.values().every { it == 1 })
            return stems
        stems = stems.collectEntries { id, stem -> [id, counts[stem.toLowerCase()] > 1 ? "${stem}-${id}".toString() : stem] }
    }
}

/* ---- the same in every script that needs it ---- */

/* The manifests of all runs, oldest first. */
List readRuns(ours) {
    def files = ours.resolve('runs').toFile().listFiles() ?: []
    def runs = files.findAll { it.getName().endsWith('.json') }.collect {
        GsonTools.getInstance().fromJson(it.getText('UTF-8'), Map)
    }
    return runs.sort { a, b -> a.number <=> b.number ?: a.run <=> b.run }
}

/* Detections as midog-qupath wrote them, by id. */
Map writtenObjects(runs) {
    def found = [:]
    runs.each { run -> run.images.each { image -> image.objects.each { found[it.id] = it } } }
    return found
}

/*
 * Whose an object is: 'theirs', or a detection of midog-qupath that a person changed or reviewed ('touched'),
 * that is as it was written ('untouched'), or of which nobody can tell ('unproven').
 */
String standing(thing, written) {
    def record = written[thing.getID().toString()]
    def measurements = thing.getMeasurementList().asMap()
    if (!thing.isDetection() || thing.isCell() || thing.isTile() || (record == null && !measurements.containsKey('midog run')))
        return 'theirs'
    def reviewed = measurements['Reviewed']
    if (thing.getName() || (reviewed != null && reviewed.doubleValue() != 0))
        return 'touched'
    def was = record ? asWritten(record) : asMarked(thing)
    if (was == null)
        return 'unproven'
    def same = String.valueOf(thing.getPathClass()) == was.className && sameShape(thing.getROI(), was)
    return same ? 'untouched' : 'touched'
}

/* Whether a shape is the one that was written, but for what storing it does: up to 0.02 px, further out more. */
boolean sameShape(roi, was) {
    def bounds = boundsOf(roi.getGeometry())
    def tolerance = Math.max(0.02d, 2 * Math.ulp(was.bounds.collect { Math.abs(it) }.max() as float))
    if ((0..3).any { Math.abs(bounds[it] - was.bounds[it]) > tolerance })
        return false
    return was.outline == null || DiscreteHausdorffDistance.distance(outlineOf(roi.getGeometry()), outlineOf(was.outline)) <= tolerance
}

List boundsOf(geometry) {
    def box = geometry.getEnvelopeInternal()
    return [box.getMinX(), box.getMinY(), box.getMaxX(), box.getMaxY()]
}

Geometry outlineOf(geometry) {
    return geometry.getDimension() == 2 ? geometry.getBoundary() : geometry
}

/* Class and shape of a detection, from the record of the run that wrote it. */
Map asWritten(record) {
    def shape = new WKTReader().read(record.outline)
    return [className: record.class_name, bounds: boundsOf(shape), outline: shape]
}

/* Class and bounds from the detection's own metadata, which QuPath keeps since 0.6; null without. */
Map asMarked(thing) {
    def metadata = thing.metaClass.respondsTo(thing, 'getMetadata') ? thing.getMetadata() : [:]
    def parts = (metadata['midog_qupath.written'] ?: '').split(/\|/)
    def numbers = parts.size() == 2 ? parts[1].tokenize(' ') : []
    if (numbers.size() != 4 || !numbers.every { it.isDouble() })
        return null
    return [className: parts[0], bounds: numbers.collect { it.toDouble() }]
}
