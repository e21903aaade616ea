"""The exported page: one file, no network, nothing of a corpus runs."""

import pytest

from seqvae.explore.export import export_page, find_neighbours, thin
from seqvae.explore.space import Space


def test_the_page_holds_the_map_and_loads_nothing(space, tmp_path):
    page = export_page(space, tmp_path / "page.html").read_text().replace("http://www.w3.org/2000/svg", "")  # a name
    assert "default-src 'none'" in page and "http://" not in page and "https://" not in page
    assert page.count("<script") == 2


def test_markup_in_a_corpus_stays_text(text_space, tmp_path):
    evil = ["</script><script>alert(1)</script>", "a cat sat .", "the dog ran .", "@@SCRIPT@@"]
    model = text_space.model
    space = Space.build(model, model.load_corpus(evil, whole=True).test)
    page = export_page(space, tmp_path / "page.html").read_text()
    assert "alert(1)" in page and "<script>alert" not in page and page.count("</script>") == 2


def test_a_notebook_shows_the_page_of_a_model_in_a_closed_frame(text_space, series_space):
    for space in (text_space, series_space):
        shown = space.model.explore(space.items, limit=6, height=500)._repr_html_()
        assert shown.startswith('<iframe sandbox="allow-scripts" width="100%" height="500" srcdoc="&lt;!doctype')
        assert shown.count("<") == 2  # the frame's own: all markup of the page is escaped
        assert "6 se" in shown


def test_neighbours_are_the_nearest_others(space):
    found = find_neighbours(space.z, space.z, skip=1)
    for row in (0, 7):
        near = space.find_nearest(space.z[row].tolist(), 6)[1:]
        assert [distance for _, distance in found[row]] == pytest.approx([n.distance for n in near], rel=1e-3)


def test_a_long_series_is_drawn_from_its_first_frame_to_its_last():
    found = thin([[float(i) for i in range(1000)]])[0]
    assert (len(found), found[0], found[-1]) == (80, 0.0, 999.0)
    assert thin(None) is None
