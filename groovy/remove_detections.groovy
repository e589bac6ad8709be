/*
 * Takes the detections of midog-qupath out of an image: those that nobody touched, or all of them.
 *
 * One image: Run, then save the image. All images: "Run for project", which saves; save open images first.
 * With a window it asks which; elsewhere it takes the untouched ones, and all with the script argument 'all'
 * (--args all). What people drew, and other tools' detections, stay.
 *
 * Removing is not deleting by hand: a later run may find the same figures again, and they do not become
 * look-alikes. For that the script notes in midog-qupath/runs what it took out.
 *
 * QuPath 0.5 to 0.7.
 */
import static qupath.lib.scripting.QP.*

import java.nio.file.Files
import java.time.OffsetDateTime
import java.time.format.DateTimeFormatter
import java.time.temporal.ChronoUnit
import org.locationtech.jts.algorithm.distance.DiscreteHausdorffDistance
import org.locationtech.jts.geom.Geometry
import org.locationtech.jts.io.WKTReader
import qupath.lib.io.GsonTools

def project = getProject()
def entry = getProjectEntry()
if (project == null || entry == null)
    throw new IllegalStateException('Open an image of a project first.')

def imageData = getCurrentImageData()
def runs = readRuns(project.getPath().getParent().resolve('midog-qupath'))
def written = writtenObjects(runs)
def everything = binding.hasVariable('args') && args.any { it == 'all' }
if (!everything && windowOn(imageData) != null) {
    def answer = askWhich(imageData.getHierarchy(), written)
    if (answer == null)
        return
    everything = answer == 'all'
}
def gone = removable(imageData.getHierarchy(), written, everything)
takeOut(project, entry, imageData, gone, runs)
println "${entry.getImageName()}: ${gone.size()} detections removed; save the image to keep it so"


/* The detections to take out. One with a person's object inside stays: that would lose its parent. */
List removable(hierarchy, written, everything) {
    def which = everything ? ['untouched', 'touched', 'unproven'] : ['untouched']
    return hierarchy.getDetectionObjects().toList().findAll { which.contains(standing(it, written)) && !it.hasChildObjects() }
}

void takeOut(project, entry, imageData, gone, runs) {
    if (!gone)
        return
    noteRemoved(project, entry, gone, runs)
    imageData.getHierarchy().removeObjects(gone, true)
}

/*
 * A run that found nothing and removed these: so they are not held for deleted by a person. It counts from
 * when the image is saved without them.
 */
void noteRemoved(project, entry, gone, runs) {
    def now = OffsetDateTime.now().truncatedTo(ChronoUnit.SECONDS)
    def run = now.format(DateTimeFormatter.ofPattern('yyyyMMdd-HHmmss')) + '-' + UUID.randomUUID().toString().take(4)
    def time = now.format(DateTimeFormatter.ISO_OFFSET_DATE_TIME)
    def earlier = runs.collectMany { it.images }.findAll { it.entry_id == entry.getID() }
    def record = [
        entry_id: entry.getID(), name: entry.getImageName(), stem: earlier ? earlier.last().stem : entry.getID(),
        state: 'written', mpp: earlier ? earlier.last().mpp : 0.25, area: 'POLYGON EMPTY', sidecar: '', objects: [], removed: gone.collect { it.getID().toString() },
    ]
    def manifest = [
        run: run, number: 1 + (runs.collect { it.number as int }.max() ?: 0), started: time, finished: time,
        model: 'remove_detections.groovy', model_sha256: '', threshold: 0.0, atypical_threshold: 0.0,
        software: [:], store: 'qupath', keep: true, images: [record],
    ]
    def folder = Files.createDirectories(project.getPath().getParent().resolve('midog-qupath').resolve('runs'))
    def fresh = folder.resolve(run + '.tmp').toFile()
    fresh.setText(GsonTools.getInstance().toJson(manifest), 'UTF-8')
    Files.move(fresh.toPath(), folder.resolve(run + '.json'))
}

/* 'untouched', 'all', or null for neither. */
String askWhich(hierarchy, written) {
    def few = removable(hierarchy, written, false).size()
    def all = removable(hierarchy, written, true).size()
    def choices = ["The ${few} that nobody changed or reviewed".toString(), "All ${all}".toString()]
    def answer = qupath.fx.dialogs.Dialogs.showChoiceDialog('Remove detections of midog-qupath', 'Remove', choices, choices[0])
    return answer == null ? null : answer == choices[0] ? 'untouched' : 'all'
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

/* QuPath's window, or null where there is none or it shows another image (Run for project, command line). */
Object windowOn(imageData) {
    try {
        def gui = Class.forName('qupath.lib.gui.QuPathGUI', true, getClass().getClassLoader()).getInstance()
        return gui != null && gui.getImageData().is(imageData) ? gui : null
    } catch (ClassNotFoundException ignored) {
        return null
    }
}
