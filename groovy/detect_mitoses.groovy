/*
 * Finds mitotic figures in the open image with the midog-qupath that is installed on this computer: in the
 * selected annotations, or without a selection in the whole image. The detections come into the open image;
 * its file on disk is not touched until you save.
 *
 * Run, with a window that shows progress and can cancel. "Run for project" and QuPath's command line work too,
 * without the window. Detections of earlier runs that nobody touched are replaced in what was searched; what
 * people drew, changed or deleted stays so.
 *
 * The program is looked for in the environment variable MIDOG_QUPATH, where it was last time, and on the PATH;
 * if it is nowhere, you are asked once.
 *
 * QuPath 0.5 to 0.7.
 */
import static qupath.lib.scripting.QP.*

import java.nio.file.Files
import java.util.concurrent.FutureTask
import java.util.prefs.Preferences
import javafx.application.Platform
import javafx.geometry.Insets
import javafx.scene.Scene
import javafx.scene.control.Button
import javafx.scene.control.Label
import javafx.scene.control.ProgressBar
import javafx.scene.layout.VBox
import javafx.stage.FileChooser
import javafx.stage.Stage
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

def imageData = getCurrentImageData()
def gui = windowOn(imageData)
def memory = Preferences.userRoot().node('midog-qupath')
def areas = selectedAreas(getSelectedObjects())
if (gui == null) {
    detect(findProgram(memory, System.getenv()), project, entry, imageData, areas, [say: { println it }, started: { }])
    return
}
def program = askForProgram(gui, memory)
if (program == null)
    return
def window = onWindowThread { openWindow(gui, entry.getImageName()) }
// Not on QuPath's window thread, wherever the script itself runs: the windows go on working.
def work = {
    try {
        def lines = detect(program, project, entry, imageData, areas, window)
        qupath.fx.dialogs.Dialogs.showInfoNotification('midog-qupath', lines.join('\n'))
    } catch (IllegalStateException error) {
        if (!window.cancelled())
            qupath.fx.dialogs.Dialogs.showErrorMessage('midog-qupath', error.getMessage())
    } finally {
        window.close()
    }
}
if (Platform.isFxApplicationThread())
    Thread.start('midog-qupath', work)
else
    work()


/* ---- detecting: no windows ---- */

/*
 * Runs the program on an image and takes what it found into the open image. `window.say` gets each line of the
 * log, `window.started` the process. Tells what was done; IllegalStateException with the program's own words
 * where it failed, and nothing is changed then.
 */
List detect(program, project, entry, imageData, areas, window) {
    def within = areas ? Files.createTempFile('midog-qupath', '.geojson') : null
    try {
        if (within != null)
            PathIO.exportObjectsAsGeoJSON(within.toFile(), areas, PathIO.GeoJsonExportOptions.FEATURE_COLLECTION)
        def done = runProgram(annotateCommand(program, project, entry, within), window)
        def report = done.code == 0 ? GsonTools.getInstance().fromJson(done.output, Map) : null
        if (report == null)
            throw new IllegalStateException(done.last ?: "${program} ended with code ${done.code}".toString())
        def lines = takeIn(project, entry, imageData, [report.run])
        lines.each { println "${entry.getImageName()}: ${it}" }
        return lines
    } finally {
        if (within != null)
            Files.delete(within)
    }
}

/* What is to be searched: the selected annotations that have an area. */
List selectedAreas(selected) {
    def drawn = selected.toList().findAll { it.isAnnotation() && it.hasROI() }
    def areas = drawn.findAll { it.getROI().isArea() }
    if (drawn && !areas)
        throw new IllegalStateException('No selected annotation has an area: select others, or none for the whole image.')
    return areas
}

List annotateCommand(program, project, entry, within) {
    def command = [program, 'annotate', project.getPath().toString(), '--image', 'id:' + entry.getID(), '--sidecar-only', '--json']
    return within == null ? command : command + ['--within', within.toString()]
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

/* The share that a line of the log says is done, 0 to 1: 'searching: 34 % (1.2 of 3.5 mm2)'. Else -1. */
double shareDone(line) {
    def found = line =~ /^.+: (\d+) %/
    return found.find() ? found.group(1).toInteger() / 100d : -1d
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

/* ---- windows ---- */

/* The program's path; asks once and remembers it. Null where the person would not say. */
String askForProgram(gui, memory) {
    try {
        return findProgram(memory, System.getenv())
    } catch (IllegalStateException ignored) {
        def file = onWindowThread {
            def chooser = new FileChooser()
            chooser.setTitle('Where is the program midog-qupath? (in the bin or Scripts folder of its Python environment)')
            chooser.showOpenDialog(gui.getStage())
        }
        if (file != null)
            memory.put('program', file.getPath())
        return file?.getPath()
    }
}

/* A window that shows what the program says; closing it or its button cancels. Made on the window thread. */
Map openWindow(gui, title) {
    def process = null
    def cancelled = false
    def bar = new ProgressBar(-1)
    def said = new Label('Starting...')
    def button = new Button('Cancel')
    def box = new VBox(10, said, bar, button)
    box.setPadding(new Insets(15))
    bar.setPrefWidth(400)
    said.setPrefSize(400, 40)
    said.setWrapText(true)
    def stage = new Stage()
    stage.initOwner(gui.getStage())
    stage.setTitle('Detecting mitoses: ' + title)
    stage.setScene(new Scene(box))
    def cancel = {
        cancelled = true
        said.setText('Cancelling...')
        if (process != null) {
            // By its handle, which leaves the streams open: its last words are read.
            process.descendants().forEach { it.destroy() }
            process.toHandle().destroy()
        }
    }
    button.setOnAction { cancel() }
    stage.setOnCloseRequest {
        it.consume()
        cancel()
    }
    stage.show()
    return [
        say: { line ->
            println line
            Platform.runLater {
                said.setText(line)
                bar.setProgress(shareDone(line))
            }
        },
        started: {
            process = it
            if (cancelled)
                cancel()
        },
        cancelled: { cancelled },
        close: { Platform.runLater { stage.close() } },
    ]
}

/* What work done on the window thread gives. */
Object onWindowThread(Closure work) {
    if (Platform.isFxApplicationThread())
        return work()
    def task = new FutureTask(work)
    Platform.runLater(task)
    return task.get()
}

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
