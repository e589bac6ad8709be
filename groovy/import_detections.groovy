/*
 * Takes the detections that midog-qupath wrote beside the project (midog-qupath/detections/<run>) into an image.
 *
 * One image: Run, then save the image. All images: "Run for project", which saves; save open images first.
 * Running it again adds nothing twice and brings nothing back that a person deleted.
 *
 * Detections of earlier runs that nobody touched are replaced in the area that the new run searched. What a
 * person drew or changed stays as it is, and nothing new comes within 7.5 um of a detection that a person
 * changed or deleted.
 *
 * QuPath 0.5 to 0.7.
 */
import static qupath.lib.scripting.QP.*

import org.locationtech.jts.geom.Coordinate
import org.locationtech.jts.geom.GeometryFactory
import org.locationtech.jts.io.WKTReader
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO

def project = getProject()
def entry = getProjectEntry()
if (project == null || entry == null)
    throw new IllegalStateException('Open an image of a project first.')

// Kept in the image's own data file: it is saved, or not, together with the detections.
def key = 'midog-qupath imported runs'
def imageData = getCurrentImageData()
def hierarchy = imageData.getHierarchy()
def imported = ((imageData.getProperty(key) ?: '') as String).tokenize(',')

def ours = project.getPath().getParent().resolve('midog-qupath')
def runs = readRuns(ours).findAll { !it.undone }
def written = [:]
runs.each { run -> run.images.each { image -> image.objects.each { written[it.id] = it } } }

def replaced = [] as Set  // ids that a run took out, so that they are not held for deleted by a person
def earlier = []          // records of the runs of which detections stand, or stood, in this image
def news = false
runs.each { run ->
    def record = run.images.find { it.entry_id == entry.getID() }
    if (record == null || record.state in ['undoing', 'undone'])
        return
    def present = hierarchy.getDetectionObjects().collect { it.getID().toString() } as Set
    def there = record.state == 'written' || imported.contains(run.run) || record.objects.any { present.contains(it.id) }
    def file = ours.resolve(record.sidecar).toFile()
    if (!there && !file.isFile())
        println "${entry.getImageName()}: run ${run.run} is skipped, ${file} is missing"
    else if (!there) {
        def wanted = record.objects.collect { it.id } as Set
        def found = PathIO.readObjects(file.toPath()).findAll { wanted.contains(it.getID().toString()) }
        def places = found.collect { centre(it) }
        def mine = hierarchy.getDetectionObjects().findAll { isOurs(it, written) }
        def radius = 7.5 / record.mpp
        def area = new WKTReader().read(record.area)
        def remove = run.keep ? [] : mine.findAll {
            isUntouched(it, written) && !it.hasChildObjects() &&
                (contains(area, centre(it)) || isNear(centre(it), places, radius))
        }
        def deleted = earlier.collectMany { it.objects }.findAll { !present.contains(it.id) && !replaced.contains(it.id) }
        def kept = (mine - remove).collect { centre(it) } + deleted.collect { [it.x, it.y] }
        def add = found.findAll { !isNear(centre(it), kept, radius) }
        hierarchy.removeObjects(remove, true)
        hierarchy.addObjects(add)
        replaced.addAll(remove.collect { it.getID().toString() })
        imported << run.run
        news = true
        println "${entry.getImageName()}: run ${run.run}: ${add.size()} added, ${remove.size()} replaced, " +
            "${found.size() - add.size()} left out"
    }
    if (there || imported.contains(run.run)) {
        earlier << record
        replaced.addAll(record.removed)
    }
}
if (news)
    imageData.setProperty(key, imported.join(','))
else
    println "${entry.getImageName()}: nothing new"


/* The manifests of all runs, oldest first. */
List readRuns(ours) {
    def files = ours.resolve('runs').toFile().listFiles() ?: []
    return files.findAll { it.getName().endsWith('.json') }.sort { it.getName() }.collect {
        GsonTools.getInstance().fromJson(it.getText('UTF-8'), Map)
    }
}

boolean isOurs(thing, written) {
    return written.containsKey(thing.getID().toString()) || thing.getMeasurementList().asMap().containsKey('midog run')
}

/* Whether a detection is still as midog-qupath wrote it. */
boolean isUntouched(thing, written) {
    def record = written[thing.getID().toString()]
    def reviewed = thing.getMeasurementList().asMap()['Reviewed']
    if (record == null || thing.getName() || (reviewed != null && reviewed.doubleValue() != 0))
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
    return String.valueOf(thing.getPathClass()) == record.class_name && moved.every { Math.abs(it) <= 0.05 }
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
