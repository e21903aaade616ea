"""`seqvae explore`: what it refuses, in one line and before any work."""

import socket
import sys

import pytest


def test_a_missing_extra_names_what_to_install(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "dash", None)
    assert "pip install 'seqvae[explore]'" in refused("explore", "chitchat")


def test_a_port_in_use_names_another(refused):
    pytest.importorskip("dash")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"port {port}" in refused("explore", "chitchat", "--port", port)


def test_a_missing_model_and_a_missing_folder_of_the_export(refused, tmp_path):
    pytest.importorskip("dash")
    assert "no model folder" in refused("explore", tmp_path / "none", "--port", "0")
    assert "--export" in refused("explore", "chitchat", "--export", tmp_path / "none" / "page.html")


def test_columns_belong_to_a_corpus(refused):
    pytest.importorskip("dash")
    assert "--corpus FILE" in refused("explore", "chitchat", "--column", "text", "--port", "0")
