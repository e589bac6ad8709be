/*
 * Counts mitoses in the richest place of the open image with the midog-qupath that is installed on this computer,
 * and draws the place: an annotation of class Hotspot with the count, the count per mm2 and per 10 fields, and
 * the Nottingham mitotic score as measurements.
 *
 * It counts what is saved: save the image first. Counted are people's Mitosis annotations, reviewed detections and
 * unreviewed ones; what people made something else is not. An earlier hotspot that nobody touched is replaced.
 * For research, not for diagnosis.
 *
 * One image: Run, then save the image. All images: "Run for project", which saves; save open images first.
 * How is counted stands in the first lines below; on the command line in the script's arguments, which go before
 * (--args "--area 2.37 --shape rect --field-diameter 0.5").
 *
 * The program is looked for in the environment variable MIDOG_QUPATH, where it was last time, and on the PATH.
 *
 * QuPath 0.5 to 0.7.
 */
import static qupath.lib.scripting.QP.*

import java.util.concurrent.FutureTask
import java.util.prefs.Preferences
import javafx.application.Platform
import org.locationtech.jts.algorithm.distance.DiscreteHausdorffDistance
import org.locationtech.jts.geom.Geometry
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO

// Area in mm2 (2.37: 10 fields of 0.237 mm2), circle or rect (4:3), diameter in mm of your microscope's 40x field.
def options = ['--area', '2.0', '--shape', 'circle', '--field-diameter', '0.55']

def project = getProject()
def entry = getProjectEntry()
if (project == null || entry == null)
    throw new IllegalStateException('Open an image of a project first.')
def imageData = getCurrentImageData()
if (imageData.isChanged())
    throw new IllegalStateException('Save the image first: what is counted is what is saved.')

def words = binding.hasVariable('args') ? args.collectMany { it.toString().tokenize(' ') } : []
def program = findProgram(Preferences.userRoot().node('midog-qupath'), System.getenv())
def lines = count(program, project, entry, imageData, options + words, [say: { println it }, started: { }])
lines.each { println "${entry.getImageName()}: ${it}" }
if (windowOn(imageData) != null)
    qupath.fx.dialogs.Dialogs.showInfoNotification('midog-qupath', lines.join('\n'))


/* ---- counting: no windows ---- */

/*
 * Runs the program on an image and takes the hotspot that it found into the open image. Tells what was counted;
 * IllegalStateException with the program's own words where it failed, and nothing is changed then.
 */
List count(program, project, entry, imageData, options, window) {
    def done = runProgram(countCommand(program, project, entry, options), window)
    def report = done.code == 0 ? GsonTools.getInstance().fromJson(done.output, Map) : null
    def row = report?.images?.find { it.entry_id == entry.getID() }
    if (row == null)
        throw new IllegalStateException(done.last ?: "${program} ended with code ${done.code}".toString())
    def file = report.files[entry.getID()]
    if (file != null)
        takeHotspotIn(project, imageData, PathIO.readObjects(new File(file).toPath()))
    return describe(row, file != null)
}

List countCommand(program, project, entry, options) {
    return [program, 'count', project.getPath().toString(), '--image', 'id:' + entry.getID(), '--store', 'native', '--json'] + options
}

/* Puts a hotspot under the root, in place of those of earlier counts that nobody touched. */
void takeHotspotIn(project, imageData, found) {
    def hierarchy = imageData.getHierarchy()
    hierarchy.removeObjects(hierarchy.getAnnotationObjects().findAll { isUntouchedHotspot(it) }, true)
    hierarchy.addObjects(found)
    addClasses(project, imageData, found.collect { it.getPathClass() })
}

/* Whether an annotation shows a count and is as midog-qupath wrote it. */
boolean isUntouchedHotspot(thing) {
    def was = asMarked(thing)
    return thing.getMeasurementList().asMap().containsKey('midog count') && was != null && !thing.getName() &&
        !thing.hasChildObjects() && String.valueOf(thing.getPathClass()) == was.className && sameShape(thing.getROI(), was)
}

/* A count in words. */
List describe(row, drawn) {
    def lines = ["${whole(row.count)} mitoses (${whole(row.by_people)} drawn by people, ${whole(row.reviewed)} reviewed, ${whole(row.unreviewed)} unreviewed)"]
    lines << (drawn ? "in ${row.area_mm2} mm2" : 'in all of the image, which is too small for the area')
    if (row.per_mm2 != null)
        lines << String.format(Locale.ROOT, '%.2f per mm2, %.1f per 10 fields of %s mm', row.per_mm2, row.per_10_hpf, row.field_diameter_mm)
    if (row.nottingham_score != null)
        lines << "Nottingham mitotic score ${whole(row.nottingham_score)}"
    if (row.interval_low != null && row.unreviewed > 0)
        lines << "95 % interval of the count, by the probabilities of the unreviewed: ${whole(row.interval_low)} to ${whole(row.interval_high)}"
    return lines.collect { it.toString() }
}

int whole(number) {
    return Math.round(number as double) as int
}

/* Runs a program to its end: exit code, what it printed, the last line of its log. */
Map runProgram(command, window) {
    def builder = new ProcessBuilder(command.collect { it.toString() })
    // The program's words are UTF-8 on every system, and it says how far it is.
    builder.environment().put('PYTHONUTF8', '1')
    def process = builder.start()
    window.started(process)
    process.getOutputStream().close()
    def output = new FutureTask({ process.getInputStream().getText('UTF-8') })
    Thread.start { output.run() }
    def last = null
    process.getErrorStream().eachLine('UTF-8') { line ->
        if (line.trim()) {
            last = line.trim()
            window.say(last)
        }
    }
    return [code: process.waitFor(), output: output.get(), last: last]
}

/* The program's path; IllegalStateException where it is nowhere. */
String findProgram(memory, environment) {
    def windows = System.getProperty('os.name').toLowerCase().startsWith('windows')
    def name = windows ? 'midog-qupath.exe' : 'midog-qupath'
    def folders = (environment['PATH'] ?: '').tokenize(File.pathSeparator)
    def places = [environment['MIDOG_QUPATH'], memory.get('program', null)] + folders.collect { new File(it, name).getPath() }
    def found = places.find { it && new File(it).isFile() && new File(it).canExecute() }
    if (found == null)
        throw new IllegalStateException('midog-qupath was not found: install it, or put its path into the environment variable MIDOG_QUPATH.')
    return found
}

/* ---- the same in every script that needs it ---- */

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
