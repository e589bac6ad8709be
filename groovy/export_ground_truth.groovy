/*
 * Writes what people drew in an image to <project>/midog-qupath/ground-truth/<image>.geojson, where
 * midog-qupath reads it: midog-qupath export PROJECT --store sidecar.
 *
 * One image: Run. All images: "Run for project (without saving)". Save open images first: QuPath runs on what
 * is saved. An image without annotations gets a file without features, which says that it was looked at.
 *
 * Written are all annotations, and those detections of midog-qupath that a person changed: another class or
 * shape, a name, or the measurement 'Reviewed'. Detections that nobody touched are no ground truth.
 *
 * QuPath 0.5 to 0.7.
 */
import static qupath.lib.scripting.QP.*

import java.nio.file.Files
import java.nio.file.StandardCopyOption
import org.locationtech.jts.io.WKTReader
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO

def project = getProject()
def entry = getProjectEntry()
if (project == null || entry == null)
    throw new IllegalStateException('Open an image of a project first.')

def ours = project.getPath().getParent().resolve('midog-qupath')
def written = writtenObjects(ours)
def hierarchy = getCurrentImageData().getHierarchy()
def touched = hierarchy.getDetectionObjects().findAll { isTouched(it, written) }
def objects = hierarchy.getAnnotationObjects() + touched

def folder = Files.createDirectories(ours.resolve('ground-truth'))
def file = folder.resolve(fileStems(project)[entry.getID()] + '.geojson')
// First beside it: a reader never sees half a file.
def fresh = folder.resolve(file.getFileName().toString() + '.tmp')
PathIO.exportObjectsAsGeoJSON(fresh.toFile(), objects, PathIO.GeoJsonExportOptions.FEATURE_COLLECTION)
Files.move(fresh, file, StandardCopyOption.REPLACE_EXISTING)
println "${entry.getImageName()}: ${objects.size()} objects in ${file}"


/* Detections as midog-qupath wrote them, by id, from the manifests of all runs. */
Map writtenObjects(ours) {
    def found = [:]
    def runs = ours.resolve('runs').toFile().listFiles() ?: []
    runs.findAll { it.getName().endsWith('.json') }.each { file ->
        def run = GsonTools.getInstance().fromJson(file.getText('UTF-8'), Map)
        run.images.each { image -> image.objects.each { found[it.id] = it } }
    }
    return found
}

/* Whether a detection is one of midog-qupath and a person changed it. */
boolean isTouched(thing, written) {
    def record = written[thing.getID().toString()]
    def measurements = thing.getMeasurementList().asMap()
    if (record == null && !measurements.containsKey('midog run'))
        return false
    def reviewed = measurements['Reviewed']
    if (thing.getName() || (reviewed != null && reviewed.doubleValue() != 0))
        return true
    if (record == null)
        return false
    def shape = new WKTReader().read(record.outline).getEnvelopeInternal()
    def roi = thing.getROI()
    def moved = [
        roi.getBoundsX() - shape.getMinX(),
        roi.getBoundsY() - shape.getMinY(),
        roi.getBoundsX() + roi.getBoundsWidth() - shape.getMaxX(),
        roi.getBoundsY() + roi.getBoundsHeight() - shape.getMaxY(),
    ]
    // Storing a shape moves its corners by up to 0.02 px.
    return String.valueOf(thing.getPathClass()) != record.class_name || moved.any { Math.abs(it) > 0.05 }
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
