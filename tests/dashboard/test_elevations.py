from dashboard.elevations import UNIT_PX, Standing, elevation_draw


def standing(position_u, height_u=6):
    return Standing(label="h", title="h", position_u=position_u, height_u=height_u, is_homegrown=False)


def test_unit_one_is_at_the_bottom():
    drawing = elevation_draw(10, [standing(1), standing(7, 4)])
    assert [(box.y_px, box.height_px) for box in drawing.boxes] == [(4 * UNIT_PX, 6 * UNIT_PX), (0, 4 * UNIT_PX)]
    assert drawing.ticks[0] == (1, 9.5 * UNIT_PX)


def test_a_host_that_reaches_beyond_the_rack_is_cut_at_its_edge():
    drawing = elevation_draw(10, [standing(8), standing(11), standing(0)])
    assert [(box.y_px, box.height_px) for box in drawing.boxes] == [(0, 3 * UNIT_PX)]
