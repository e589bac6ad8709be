"""The hotspot is the exact maximum: equal to trying every place that can be the best, slowly."""

from __future__ import annotations

import itertools
import math
import sys
import time

import numpy as np
import pytest
import shapely
from shapely.affinity import rotate
from shapely.geometry import Point, box

from midog_qupath.counting.ground import LEAST_TISSUE, allowed_ground
from midog_qupath.counting.hotspot import Spot, best_spot
from midog_qupath.counting.raster import rasterise
from midog_qupath.counting.window import GRACE, Window, window_of


@pytest.fixture
def rng():
    """Random numbers whose seed is shown when a test fails."""
    seed = int(np.random.default_rng().integers(2**32))
    sys.stdout.write(f"seed {seed}\n")
    return np.random.default_rng(seed)


def seen(window, place, points):
    """How many points a window at a place sees, by its definition."""
    count = 0
    for x, y in points:
        dx, dy = abs(x - place[0]), abs(y - place[1])
        if window.shape == "circle":
            count += math.hypot(dx, dy) <= window.half_x + GRACE
        else:
            count += dx <= window.half_x + GRACE and dy <= window.half_y + GRACE
    return count


def border_pieces(ground):
    rows, columns = (length - 1 for length in ground.level.shape)
    for row, column in itertools.product(range(rows), range(columns)):
        yield from ground.border(row, column)


def places_to_try(window, points, ground):
    """Every place that can be the best one, all pairs and all pieces of the border, none left out."""
    r = window.half_x
    for (ax, ay), (bx, by) in itertools.combinations(points, 2):
        if window.shape == "rect":
            continue
        d = math.hypot(bx - ax, by - ay)
        if 0 < d <= 2 * r:
            h = math.sqrt(max(r * r - d * d / 4, 0))
            for sign in (-1, 1):
                yield (ax + bx) / 2 - sign * h * (by - ay) / d, (ay + by) / 2 + sign * h * (bx - ax) / d
    for x, y in points:
        if window.shape == "circle":
            yield x, y - r
        else:
            for _, other in points:
                yield x - r, other - window.half_y
    for start, end in border_pieces(ground):
        yield tuple(start)
        yield tuple(end)
        line = shapely.LineString([start, end])
        for x, y in points:
            if window.shape == "circle":
                # Where the piece is r from the point, from the quadratic equation.
                (sx, sy), (dx, dy) = start - (x, y), end - start
                a, b, c = dx * dx + dy * dy, sx * dx + sy * dy, sx * sx + sy * sy - r * r
                if a > 0 and b * b - a * c >= 0:
                    for sign in (-1, 1):
                        t = (-b + sign * math.sqrt(b * b - a * c)) / a
                        if 0 <= t <= 1:
                            yield start[0] + t * dx, start[1] + t * dy
            else:
                outline = shapely.box(
                    x - r, y - window.half_y, x + r, y + window.half_y
                ).exterior.intersection(line)
                for part in shapely.get_coordinates(outline):
                    yield tuple(part)


def brute_force(window, points, ground):
    best = None
    for place in places_to_try(window, points, ground):
        at = np.array([place])
        rows, columns = (length - 1 for length in ground.level.shape)
        far = at[0] - (ground.x, ground.y)
        if (far < 0).any() or far[0] > columns * ground.side or far[1] > rows * ground.side:
            continue
        if ground.holds(at)[0]:
            spot = Spot(place[0], place[1], seen(window, place, points))
            best = spot if spot.beats(best) else best
    return best


def tissues(rng):
    """Grounds with a border that matters: a field, a band, a piece with a hole, two pieces."""
    yield box(0, 0, 200, 150)
    yield rotate(box(0, 0, 260, 90), 30)
    yield Point(100, 100).buffer(100).difference(Point(120, 90).buffer(float(rng.uniform(5, 30))))
    yield shapely.union_all([box(0, 0, 110, 100), box(150, 40, 260, 160)])


@pytest.mark.parametrize("shape", ["circle", "rect"])
@pytest.mark.parametrize("whole", [False, True])
def test_the_maximum_equals_brute_force(rng, shape, whole, monkeypatch):
    # A coarser grid: the border has fewer pieces, so that brute force ends.
    monkeypatch.setattr("midog_qupath.counting.ground._FINE", 3)
    window = Window("circle", 40.0, 40.0) if shape == "circle" else Window("rect", 44.0, 33.0)
    for tissue in tissues(rng):
        ground = allowed_ground(tissue, window)
        assert ground is not None
        x0, y0, x1, y1 = tissue.bounds
        for count in (1, 2, 3, 9):
            points = rng.uniform((x0, y0), (x1, y1), (count, 2))
            # On whole numbers many borders run through one place, and points fall together.
            points = (points / 8).round() * 8 if whole else points
            expected, found = brute_force(window, points, ground), best_spot(points, window, ground)
            assert found is not None
            assert found.count == expected.count
            assert (found.y, found.x) == pytest.approx((expected.y, expected.x), abs=1e-5)
            assert found.count == seen(window, (found.x, found.y), points)


@pytest.mark.parametrize("shape", ["circle", "rect"])
def test_no_place_sees_more_and_enough_of_it_is_tissue(rng, shape):
    tissue = Point(3000, 3000).buffer(3000).difference(box(1500, 2000, 2600, 5000))
    window = window_of(0.05, shape, 0.25)
    ground = allowed_ground(tissue, window)
    points = rng.normal((2800, 3000), 900, (400, 2))
    found = best_spot(points, window, ground)
    assert tissue.intersection(window.polygon(found.x, found.y)).area >= LEAST_TISSUE * window.area
    assert seen(window, (found.x, found.y), points) == found.count
    for place in rng.uniform(0, 6000, (1500, 2)):
        if tissue.intersection(window.polygon(*place)).area >= 0.905 * window.area:
            assert seen(window, place, points) <= found.count


def test_the_border_of_the_ground_is_where_nine_tenths_are_tissue():
    window = window_of(2.0, "circle", 0.25)
    ground = allowed_ground(box(0, 0, 12000, 9000), window)
    rows, columns = ground.level.shape
    for row in range(0, rows - 1, 7):
        for column in range(0, columns - 1, 7):
            for piece in ground.border(row, column):
                for place in piece:
                    part = box(0, 0, 12000, 9000).intersection(window.polygon(*place)).area / window.area
                    assert part == pytest.approx(LEAST_TISSUE, abs=3e-4)
                    assert part >= LEAST_TISSUE


def test_of_equal_places_the_upper_then_the_left_one_is_taken():
    window, tissue = Window("circle", 10.0, 10.0), box(0, 0, 1000, 1000)
    ground = allowed_ground(tissue, window)
    # Two pairs, equally good; the upper one wins, whichever comes first.
    points = np.array([(500.0, 700.0), (505.0, 700.0), (300.0, 200.0), (303.0, 200.0)])
    for given in (points, points[::-1]):
        found = best_spot(given, window, ground)
        assert found.count == 2
        # The upper end of the lens of two circles of radius 10, 3 apart.
        assert (found.x, found.y) == pytest.approx((301.5, 200 - math.sqrt(100 - 2.25)), abs=1e-6)
    side_by_side = np.array([(700.0, 200.0), (300.0, 200.0)])
    found = best_spot(side_by_side, window, ground)
    assert (found.x, found.y, found.count) == (300.0, 190.0, 1)


def test_a_border_point_is_seen():
    window, ground = (
        Window("circle", 10.0, 10.0),
        allowed_ground(box(0, 0, 500, 500), Window("circle", 10, 10)),
    )
    # From the middle both are exactly a radius away.
    found = best_spot(np.array([(200.0, 200.0), (220.0, 200.0)]), window, ground)
    assert (found.x, found.y, found.count) == (210.0, 200.0, 2)


def test_without_points_the_first_allowed_place_is_taken():
    window = Window("circle", 10.0, 10.0)
    ground = allowed_ground(box(0, 0, 100, 100), window)
    found = best_spot(np.empty((0, 2)), window, ground)
    assert found.count == 0
    assert ground.holds(np.array([(found.x, found.y)]))[0]


def test_a_window_that_does_not_fit_has_no_ground():
    assert allowed_ground(box(0, 0, 1024, 1024), window_of(2.0, "circle", 0.25)) is None
    assert allowed_ground(shapely.Polygon(), window_of(2.0, "circle", 0.25)) is None


def test_a_raster_holds_each_cells_share(rng):
    for _ in range(20):
        area = shapely.union_all(
            [Point(*rng.uniform(3, 17, 2)).buffer(float(rng.uniform(0.2, 3)), quad_segs=2) for _ in range(5)]
        ).difference(Point(10, 10).buffer(1.0))
        found = rasterise(area, 0, 0, 1.0, (20, 20))
        expected = [[area.intersection(box(c, r, c + 1, r + 1)).area for c in range(20)] for r in range(20)]
        assert found == pytest.approx(np.array(expected), abs=1e-9)


def test_windows_have_the_area_that_was_asked_for():
    # 798 and 869 um are the radii of 2.00 and 2.37 mm2.
    assert window_of(2.0, "circle", 0.25).half_x * 0.25 == pytest.approx(798, abs=1)
    assert window_of(2.37, "circle", 0.25).half_x * 0.25 == pytest.approx(869, abs=1)
    rect = window_of(2.0, "rect", 0.5)
    assert rect.half_x / rect.half_y == pytest.approx(4 / 3)
    assert rect.area * 0.25e-6 == pytest.approx(2.0)


def test_a_hundred_thousand_points_take_seconds(rng):
    tissue = Point(40000, 40000).buffer(39000).difference(box(20000, 20000, 30000, 50000))
    window = window_of(2.0, "circle", 0.25)
    points = rng.uniform(0, 80000, (100_000, 2))
    start = time.process_time()
    found = best_spot(points, window, allowed_ground(tissue, window))
    assert time.process_time() - start < 20
    assert found.count == seen(window, (found.x, found.y), points)


@pytest.mark.parametrize("shape", ["circle", "rect"])
def test_points_on_a_perfect_lattice_take_seconds(shape):
    # Everywhere the same: no place can be left out early, and thousands of places are equally good.
    side = 800.0
    points = (np.stack(np.meshgrid(np.arange(100), np.arange(100)), axis=-1).reshape(-1, 2) + 0.5) * side
    window = window_of(2.0, shape, 0.25)
    ground = allowed_ground(Point(40000, 40000).buffer(39000), window)
    start = time.process_time()
    found = best_spot(points, window, ground)
    assert time.process_time() - start < 10
    assert found.count == seen(window, (found.x, found.y), points)
    # The lattice moved by one step is the same lattice: of all places like it this is the uppermost.
    for place in [(found.x + step * side, found.y - side) for step in range(-20, 21)]:
        assert not (ground.holds(np.array([place]))[0] and seen(window, place, points) >= found.count)
