"""Key files as `keygen` writes them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from antom_payments.antom.signing import Signer, Verifier, load_private_key, load_public_key
from antom_payments.errors import ConfigurationError, Undecipherable
from antom_payments.keygen import add_data_key, write_data_key, write_key_pair
from antom_payments.store import DataCipher


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_what_the_private_key_signs_the_public_key_verifies(tmp_path: Path) -> None:
    private_file, public_file = write_key_pair(tmp_path, "merchant")
    assert private_file.name == "merchant_private_key.txt"
    assert public_file.name == "merchant_public_key.txt"
    signer = Signer(load_private_key(private_file.read_text(), setting="test"), "SANDBOX_1")
    verifier = Verifier([load_public_key(public_file.read_text(), setting="test")])
    verifier.verify(
        method="POST",
        uri="/antom/notify",
        client_id="SANDBOX_1",
        time="1",
        body=b"{}",
        signature_header=signer.signature_header("POST", "/antom/notify", "1", b"{}"),
    )


def test_keys_are_base64_on_one_line_as_antoms_dashboard_takes_them(tmp_path: Path) -> None:
    for file in write_key_pair(tmp_path, "merchant"):
        [line] = file.read_text().splitlines()
        assert line.isascii()
        assert "-----" not in line


def test_the_data_key_encrypts(tmp_path: Path) -> None:
    cipher = DataCipher(write_data_key(tmp_path).read_text())
    assert cipher.decrypt(cipher.encrypt(b"secret")) == b"secret"


@pytest.mark.usefixtures("open_umask")
def test_only_the_owner_reads_keys_and_the_folder_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "keys"
    for file in (*write_key_pair(folder, "merchant"), write_data_key(folder)):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_each_pair_is_another_one(tmp_path: Path) -> None:
    first, second = (write_key_pair(tmp_path, name)[0].read_text() for name in ("one", "two"))
    assert first != second


def test_a_data_key_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data_key.txt").write_text("precious")
    with pytest.raises(ConfigurationError, match="never overwritten"):
        write_data_key(tmp_path)
    assert (tmp_path / "data_key.txt").read_text() == "precious"


@pytest.mark.parametrize("half", ["private", "public"])
def test_a_pair_is_never_overwritten_nor_mixed_with_an_old_half(tmp_path: Path, half: str) -> None:
    old = tmp_path / f"merchant_{half}_key.txt"
    old.write_text("precious")
    with pytest.raises(ConfigurationError, match="never overwritten") as refusal:
        write_key_pair(tmp_path, "merchant")
    assert refusal.value.setting == str(old)
    assert old.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [old]


# A key more


def test_a_data_key_is_added_before_the_others_which_go_on_decrypting(tmp_path: Path) -> None:
    file = write_data_key(tmp_path)
    old = file.read_text()
    token = DataCipher(old).encrypt(b"secret")
    assert add_data_key(file) == 2
    text = file.read_text()
    assert text.endswith(old)
    cipher = DataCipher(text)
    assert cipher.decrypt(token) == b"secret"
    with pytest.raises(Undecipherable):
        DataCipher(old).decrypt(cipher.encrypt(b"more"))
    assert add_data_key(file) == 3
    assert file.read_text().endswith(text)
    assert [path.name for path in tmp_path.iterdir()] == ["data_key.txt"]


@pytest.mark.usefixtures("open_umask")
def test_only_the_owner_reads_a_file_with_an_added_key(tmp_path: Path) -> None:
    file = write_data_key(tmp_path)
    file.chmod(0o644)
    add_data_key(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_key_is_added_to_what_a_link_names(tmp_path: Path) -> None:
    file = write_data_key(tmp_path / "real")
    link = tmp_path / "link.txt"
    link.symlink_to(file)
    assert add_data_key(link) == 2
    assert link.is_symlink()
    assert len(file.read_text().splitlines()) == 2


@pytest.mark.parametrize("text", [None, "", "precious", "a\n\xff"])
def test_a_file_without_keys_gets_none_added_and_stays(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "data_key.txt"
    if text is not None:
        file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError):
        add_data_key(file)
    assert (file.read_bytes().decode("latin-1") if file.exists() else None) == text
    assert len(list(tmp_path.iterdir())) == (0 if text is None else 1)


def test_a_folder_that_is_missing_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected a readable key file"):
        add_data_key(tmp_path / "nowhere" / "data_key.txt")


def test_commands_that_add_at_once_lose_no_key(tmp_path: Path) -> None:
    file = write_data_key(tmp_path)
    with ThreadPoolExecutor() as many:
        counts = sorted(many.map(lambda _: add_data_key(file), range(8)))
    assert counts == list(range(2, 10))
    assert len(set(file.read_text().splitlines())) == 9
