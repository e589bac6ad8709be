/*
 * Goes through the detections of midog-qupath in the open image, the most uncertain first.
 *
 * Run. A small window has the keys (click it, so that it hears them):
 *   A  accept as it is          R  reject (class Non-mitosis)
 *   N  normal                   T  atypical
 *   U  undo the last decision   Space or Right  next, without a decision
 *
 * A decision is the class of the detection itself and the measurement 'Reviewed' = 1; it lies in the image and
 * is saved with it: every 20 decisions, when the window is closed, or with File > Save. Run the script again,
 * today or next year, and it goes on with what is left. Draw a mitosis that was missed as an annotation of
 * class Mitosis.
 *
 * midog-qupath export takes annotations, reviewed detections and detections of a changed class as ground truth.
 * Without a window (command line, "Run for project") the script only says how many are left.
 *
 * QuPath 0.5 to 0.7.
 */
import static qupath.lib.scripting.QP.*

import javafx.geometry.Insets
import javafx.scene.Scene
import javafx.scene.control.Button
import javafx.scene.control.Label
import javafx.scene.input.KeyEvent
import javafx.scene.layout.HBox
import javafx.scene.layout.VBox
import javafx.application.Platform
import javafx.stage.Stage
import org.locationtech.jts.algorithm.distance.DiscreteHausdorffDistance
import org.locationtech.jts.geom.Geometry
import org.locationtech.jts.io.WKTReader
import qupath.lib.io.GsonTools
import qupath.lib.objects.classes.PathClass

def project = getProject()
def entry = getProjectEntry()
if (project == null || entry == null)
    throw new IllegalStateException('Open an image of a project first.')

// Other class names in your project? Change them here, as you would with --class-map.
def classes = [reject: 'Non-mitosis', normal: 'Mitosis: Normal', atypical: 'Mitosis: Atypical']
def imageData = getCurrentImageData()
def runs = readRuns(project.getPath().getParent().resolve('midog-qupath'))
def left = queue(imageData.getHierarchy(), runs)
println "${entry.getImageName()}: ${left.size()} detections to review"
def gui = windowOn(imageData)
if (gui != null) {
    addClasses(project, imageData, classes.values().collect { coloured(it) })
    Platform.runLater { openReview(gui, entry, imageData, left, classes) }
}


/* ---- deciding: no windows ---- */

/* The detections that wait for a person, the most uncertain first. */
List queue(hierarchy, runs) {
    def written = writtenObjects(runs)
    def waiting = hierarchy.getDetectionObjects().findAll { ['untouched', 'unproven'].contains(standing(it, written)) }
    def byNumber = runs.collectEntries { [it.number as int, it] }
    return waiting.sort(false) { a, b ->
        margin(a, byNumber) <=> margin(b, byNumber) ?: a.getID().toString() <=> b.getID().toString()
    }
}

/*
 * How sure the model was: how far a probability lies from the threshold at which the detection would be none,
 * or of the other type; the smaller of both. Thresholds as its run had them, else 0.5.
 */
double margin(thing, byNumber) {
    def measured = thing.getMeasurementList().asMap()
    def run = byNumber[measured['midog run'] as Integer]
    def pairs = [
        [measured['Mitosis probability'], run?.threshold],
        [measured['Atypical probability'], run?.atypical_threshold],
    ]
    def known = pairs.findAll { it[0] != null && !it[0].doubleValue().isNaN() }
    return known.collect { Math.abs(it[0].doubleValue() - (it[1] == null ? 0.5d : it[1] as double)) }.min() ?: 0d
}

/* Puts a decision on a detection: a class, or null to accept the one it has. Gives what `takeBack` needs. */
Map decide(hierarchy, thing, className) {
    def before = [thing: thing, pathClass: thing.getPathClass(), reviewed: thing.getMeasurementList().asMap()['Reviewed']]
    if (className != null)
        thing.setPathClass(coloured(className))
    thing.getMeasurementList().put('Reviewed', 1d)
    tell(hierarchy, thing)
    return before
}

/* Undoes a decision. */
void takeBack(hierarchy, before) {
    def list = before.thing.getMeasurementList()
    before.thing.setPathClass(before.pathClass)
    if (before.reviewed == null)
        list.remove('Reviewed')
    else
        list.put('Reviewed', before.reviewed.doubleValue())
    tell(hierarchy, before.thing)
}

/* QuPath draws, counts and offers to save. */
void tell(hierarchy, thing) {
    thing.getMeasurementList().close()
    hierarchy.fireObjectMeasurementsChangedEvent(this, [thing])
    hierarchy.fireObjectClassificationsChangedEvent(this, [thing])
}

/* A class; in its usual colour, unless QuPath knows it already. */
PathClass coloured(className) {
    def colours = ['Non-mitosis': 0x7f7f7f, 'Mitosis: Normal': 0x1f77b4, 'Mitosis: Atypical': 0xc800ff]
    return PathClass.fromString(className, (0xff000000 as int) | (colours[className] ?: 0xd62728))
}

/* ---- windows ---- */

/* The window of the review; made on the window thread. */
void openReview(gui, entry, imageData, left, classes) {
    def hierarchy = imageData.getHierarchy()
    def decided = []   // what undo takes back, last one last
    def at = 0         // place in the queue
    def said = new Label()
    said.setPrefSize(420, 60)
    said.setWrapText(true)
    def save = {
        try {
            entry.saveImageData(imageData)
        } catch (IOException error) {
            qupath.fx.dialogs.Dialogs.showErrorMessage('Review', 'The image could not be saved: ' + error.getMessage())
        }
    }
    def show = {
        if (at >= left.size()) {
            said.setText("All ${left.size()} looked at. Draw what was missed as annotations of class Mitosis.")
            return
        }
        def thing = left[at]
        said.setText("${at + 1} of ${left.size()}: ${thing.getPathClass()}\n${thing.getMeasurementList().asMap()}")
        hierarchy.getSelectionModel().setSelectedObject(thing)
        def pixel = imageData.getServer().getPixelCalibration()
        def viewer = gui.getViewer()
        viewer.setDownsampleFactor(pixel.hasPixelSizeMicrons() ? 0.125 / pixel.getAveragedPixelSizeMicrons() : 0.5)
        viewer.setCenterPixelLocation(thing.getROI().getCentroidX(), thing.getROI().getCentroidY())
    }
    def here = {
        if (gui.getImageData().is(imageData))
            return true
        said.setText("Open ${entry.getImageName()} again: its review goes on there.")
        return false
    }
    def next = {
        if (here()) {
            at = Math.min(at + 1, left.size())
            show()
        }
    }
    def decision = { className ->
        // One that was deleted meanwhile has been decided about.
        if (here() && at < left.size() && left[at].getParent() != null) {
            decided << [place: at, before: decide(hierarchy, left[at], className)]
            if (decided.size() % 20 == 0)
                save()
        }
        next()
    }
    def undo = {
        if (here() && decided) {
            def last = decided.removeLast()
            takeBack(hierarchy, last.before)
            at = last.place
            show()
        }
    }
    def actions = [
        A: { decision(null) },
        R: { decision(classes.reject) },
        N: { decision(classes.normal) },
        T: { decision(classes.atypical) },
        U: undo,
        SPACE: next,
        RIGHT: next,
    ]
    def names = [A: 'Accept (A)', R: 'Reject (R)', N: 'Normal (N)', T: 'Atypical (T)', U: 'Undo (U)', SPACE: 'Next (Space)']
    def buttons = names.collect { key, text ->
        def button = new Button(text)
        button.setFocusTraversable(false)
        button.setOnAction { actions[key].call() }
        button
    }
    def row = new HBox(5)
    row.getChildren().addAll(buttons)
    def box = new VBox(10, said, row)
    box.setPadding(new Insets(12))
    def stage = new Stage()
    stage.initOwner(gui.getStage())
    stage.setTitle('Review: ' + entry.getImageName())
    stage.setScene(new Scene(box))
    stage.addEventFilter(KeyEvent.KEY_PRESSED) { event ->
        def action = actions[event.getCode().name()]
        if (action != null) {
            action.call()
            event.consume()
        }
    }
    stage.setOnHidden { save() }
    stage.show()
    show()
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
