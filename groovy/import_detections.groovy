/*
 * Takes the detections that midog-qupath wrote beside the project (midog-qupath/detections/<run>) into an image.
 *
 * One image: Run, then save the image. All images: "Run for project", which saves; save open images first.
 * Running it again adds nothing twice and brings nothing back that a person deleted.
 *
 * Detections of earlier runs that nobody touched are replaced in the area that the new run searched. What a
 * person drew or changed stays as it is, and nothing new comes within 7.5 um of a detection that a person
 * changed or deleted. Classes that the project lacks are added with their colours.
 *
 * QuPath 0.5 to 0.7.
 */
import static qupath.lib.scripting.QP.*

import javafx.application.Platform
import org.locationtech.jts.algorithm.distance.DiscreteHausdorffDistance
import org.locationtech.jts.geom.Coordinate
import org.locationtech.jts.geom.Geometry
import org.locationtech.jts.geom.GeometryFactory
import org.locationtech.jts.io.WKTReader
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO

def project = getProject()
def entry = getProjectEntry()
if (project == null || entry == null)
    throw new IllegalStateException('Open an image of a project first.')

def lines = takeIn(project, entry, getCurrentImageData(), null) ?: ['nothing new']
def report = lines.collect { "${entry.getImageName()}: ${it}".toString() }.join('\n')
println report
if (windowOn(getCurrentImageData()) != null)
    qupath.fx.dialogs.Dialogs.showMessageDialog('Import detections', report)

/* ---- the same in every script that needs it ---- */

/*
 * Takes the detections of runs into an image: those named, or all that are not yet in it. Tells what it did,
 * a line a run. Which runs were taken in, and what each replaced, is kept in the image's own data: saved, or not,
 * with the detections. From that midog-qupath knows a run that a person deleted to the last detection.
 */
List takeIn(project, entry, imageData, wanted) {
    def key = 'midog-qupath imported runs'
    def hierarchy = imageData.getHierarchy()
    def imported = ((imageData.getProperty(key) ?: '') as String).tokenize(',').collectEntries {
        def words = it.tokenize(' ')
        [(words[0]): words.drop(1)]
    }
    def ours = project.getPath().getParent().resolve('midog-qupath')
    def runs = readRuns(ours).findAll { !it.undone }
    def written = writtenObjects(runs)
    def replaced = [] as Set  // ids that a run took out, so that they are not held for deleted by a person
    def earlier = []          // records of the runs of which detections stand, or stood, in this image
    def lines = []
    runs.each { run ->
        def record = run.images.find { it.entry_id == entry.getID() }
        if (record == null)
            return
        def present = hierarchy.getDetectionObjects().collect { it.getID().toString() } as Set
        def there = record.state == 'written' || imported.containsKey(run.run) || record.objects.any { present.contains(it.id) }
        def file = ours.resolve(record.sidecar).toFile()
        def asked = !there && (wanted == null || wanted.contains(run.run))
        if (asked && !file.isFile())
            lines << "run ${run.run} is skipped, ${file} is missing"
        else if (asked) {
            def ids = record.objects.collect { it.id } as Set
            def found = PathIO.readObjects(file.toPath()).findAll { ids.contains(it.getID().toString()) }
            def places = found.collect { centre(it) }
            def mine = hierarchy.getDetectionObjects().findAll { standing(it, written) != 'theirs' }
            def radius = 7.5 / record.mpp
            def area = new WKTReader().read(record.area)
            def remove = run.keep ? [] : mine.findAll {
                standing(it, written) == 'untouched' && !it.hasChildObjects() &&
                    (contains(area, centre(it)) || isNear(centre(it), places, radius))
            }
            def deleted = earlier.collectMany { it.objects }.findAll { !present.contains(it.id) && !replaced.contains(it.id) }
            def kept = (mine - remove).collect { centre(it) } + deleted.collect { [it.x, it.y] }
            def add = found.findAll { !isNear(centre(it), kept, radius) }
            hierarchy.removeObjects(remove, true)
            hierarchy.addObjects(add)
            imported[run.run] = remove.collect { it.getID().toString() }
            addClasses(project, imageData, add.collect { it.getPathClass() })
            lines << "run ${run.run}: ${add.size()} added, ${remove.size()} replaced, ${found.size() - add.size()} left out"
        }
        if (there || imported.containsKey(run.run)) {
            earlier << record
            replaced.addAll(imported.containsKey(run.run) ? imported[run.run] : record.removed)
        }
    }
    if (lines)
        imageData.setProperty(key, imported.collect { name, ids -> ([name] + ids).join(' ') }.join(','))
    return lines.collect { it.toString() }
}

List centre(thing) {
    def roi = thing.getROI()
    return [roi.getBoundsX() + roi.getBoundsWidth() / 2, roi.getBoundsY() + roi.getBoundsHeight() / 2]
}

boolean contains(area, place) {
    return area.intersects(new GeometryFactory().createPoint(new Coordinate(place[0], place[1])))
}

boolean isNear(place, others, radius) {
    return others.any { Math.hypot(it[0] - place[0], it[1] - place[1]) <= radius }
}

/* Adds to the project the classes that it lacks, with their colours; those that it has keep theirs. */
void addClasses(project, imageData, classes) {
    def known = project.getPathClasses().collect { String.valueOf(it) }
    def fresh = classes.findAll { it != null && !known.contains(it.toString()) }.unique()
    def gui = windowOn(imageData)
    if (fresh && gui != null)
        Platform.runLater { gui.getAvailablePathClasses().addAll(fresh - gui.getAvailablePathClasses()) }
    else if (fresh)
        project.setPathClasses(project.getPathClasses() + fresh)
}

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
