"""The exported page: one file, no network, nothing of a corpus runs."""

from seqvae.explore.export import export_page
from seqvae.explore.space import Space


def test_the_page_holds_the_map_and_loads_nothing(space, tmp_path):
    page = export_page(space, tmp_path / "page.html").read_text()
    assert "default-src 'none'" in page and "http://" not in page and "https://" not in page
    assert page.count("<script") == 2


def test_markup_in_a_corpus_stays_text(text_space, tmp_path):
    evil = ["</script><script>alert(1)</script>", "a cat sat .", "the dog ran .", "@@SCRIPT@@"]
    model = text_space.model
    space = Space.build(model, model.load_corpus(evil, whole=True).test)
    page = export_page(space, tmp_path / "page.html").read_text()
    assert "alert(1)" in page and "<script>alert" not in page and page.count("</script>") == 2
