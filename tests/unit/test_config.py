# SPDX-License-Identifier: GPL-2.0-or-later
"""Every kind of mistake that an operator can make, and the values that come of a file without."""

from __future__ import annotations

import contextlib
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from kwatch.adapters.smtp import Security
from kwatch.config import model
from kwatch.config.files import Secrets
from kwatch.config.load import load
from kwatch.config.problem import ConfigProblems, Problem
from kwatch.config.read import ARRAYS, TABLES, fields_of
from kwatch.config.settings import Settings
from kwatch.domain.boot.care import BootProfile
from kwatch.domain.lab.host import Slot
from kwatch.domain.lab.job import Resource
from kwatch.domain.mail.story import Release
from kwatch.domain.recipe.arch import ARCHES
from kwatch.domain.recipe.boot import Accelerator, BootRecipe, Counters
from kwatch.engine.slots import count_slots
from kwatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic.fields import FieldInfo

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "config.example.toml"
DOCUMENTATION = PROJECT / "docs" / "configuration.md"
SECTIONS: Mapping[str, type[BaseModel]] = {
    **{f"[{name}]": section for name, section in TABLES.items()},
    **{f"[[{name}]]": section for name, section in ARRAYS.items()},
    "[mail.smtp]": model.Smtp,
    "[profile.deadlines]": model.Deadlines,
}
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDA50jserlcu0//7IftJWap9pNNC5wrVe1+3lhBS8avm"
GOOD = """
[lab]
name = "lab"
owner = "operator@example.org"
contact = "operator@example.org"
state_directory = "state"
busybox = "busybox"
[[tree]]
name = "next"
url = "./next.git"
tags = ["next-*"]
variants = ["cov", "control"]
[[list]]
name = "patches"
url = "https://lore.example.org/patches"
address = "patches@example.org"
since = 2026-01-02
[[series]]
name = "llvm-cov"
list = "patches"
creates = ["kernel/llvm-cov/fs.c"]
senders = ["Author@Example.org"]
[[toolchain]]
name = "clang-22"
llvm_suffix = "-22"
[[kconfig]]
name = "coverage"
base = "tinyconfig"
fragments = ["coverage.config"]
[[profile]]
name = "kvm"
accelerator = "kvm"
memory = "2 GiB"
counters = "reset"
deadlines = { init = "3 min" }
[[variant]]
name = "cov"
series = "llvm-cov"
toolchain = "clang-22"
kconfig = "coverage"
profile = "kvm"
[[variant]]
name = "control"
toolchain = "clang-22"
kconfig = "coverage"
profile = "kvm"
[[host]]
name = "remote"
address = "build.example.org"
user = "kwatch"
key_file = "ssh-key"
known_hosts = "HOST_KEY"
slots = { build = 1, boot = 2 }
labels = ["bigg"]
memory = "32 GiB"
[[host]]
name = "local"
slots = { boot = 1 }
labels = ["fast"]
memory = "8 GiB"
[mail]
from_address = "kwatch@Example.org"
[mail.smtp]
host = "smtp.example.org"
user = "kwatch"
password_file = "password"
[blobs]
budget = "1.5 GiB"
""".replace("HOST_KEY", HOST_KEY)


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / "busybox").write_bytes(b"\x7fELF")
    (tmp_path / "ssh-key").write_text("a private key\n")
    (tmp_path / "password").write_text("open sesame\n")
    (tmp_path / "coverage.config").write_text("CONFIG_LLVM_COV_KERNEL=y\n")


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def problems_of(folder: Path, text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigProblems) as caught:
        load(written(folder, text))
    assert str(caught.value).splitlines() == [str(one) for one in caught.value.problems]
    return caught.value.problems


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert load(written(tmp_path, f"\ufeff{GOOD}")).name == "lab"


def test_values(tmp_path: Path) -> None:
    found = load(written(tmp_path, GOOD))
    assert found.name == "lab"
    assert found.state.root == tmp_path / "state"
    assert found.busybox == {"x86_64": tmp_path / "busybox"}
    assert found.trees[0].url == f"{tmp_path}/next.git"
    assert found.schedule.tree_poll == {"next": 900.0}
    assert found.schedule.list_poll == {"patches": 600.0}
    assert found.schedule.bisections == 0.5
    assert found.lists[0].since == datetime(2026, 1, 2, tzinfo=UTC)
    assert found.series[0].rule.files == ("kernel/llvm-cov/fs.c",)
    assert found.series[0].rule.senders == {"author@example.org"}
    slots = count_slots(found.hosts, checkouts=found.checkouts, collections=found.collections)
    assert slots[Resource.BUILD] == 1
    assert slots[Resource.BOOT] == 3
    assert set(slots) == set(Resource)
    assert found.blobs_budget == 3 << 29
    assert (found.web.host, found.web.port, found.web.url) == ("127.0.0.1", 8417, None)
    assert found.web.host_names == ()


ARM = changed("slots = { boot = 1 }", 'slots = { boot = 1 }\nemulates = ["arm64"]').replace(
    '"control"\ntoolchain', '"control"\narch = "arm64"\ntoolchain'
)


def test_a_name_that_no_line_can_hold_is_no_hint(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, GOOD.replace('name = "llvm-cov"', 'name = "\\u000d"', 1))
    assert [one.key for one in problems] == ["series[0].name", "variant[0].series"]
    assert str(problems[1]).endswith("; there are none")


def test_another_architecture(tmp_path: Path) -> None:
    busybox = 'busybox = { x86_64 = "busybox", arm64 = "password" }'
    text = ARM.replace('busybox = "busybox"', busybox).replace('"kvm"\nmem', '"auto"\nmem')
    found = load(written(tmp_path, text))
    assert found.busybox == {"x86_64": tmp_path / "busybox", "arm64": tmp_path / "password"}
    assert [host.emulates for host in found.hosts] == [set(), {"arm64"}]
    machines = {name: one.boot.recipe.machine for name, one in found.variants.items()}
    assert machines == {"cov": "q35", "control": "virt,gic-version=max"}
    problems = problems_of(tmp_path, ARM.replace('"kvm"\nmem', '"auto"\nmem'))
    assert [(one.key, one.found) for one in problems] == [("lab.busybox.arm64", "none")]
    # No host of another architecture has KVM for it.
    problems = problems_of(tmp_path, text.replace('"auto"\nmem', '"kvm"\nmem'))
    assert [(one.key, one.expected) for one in problems] == [
        ("variant[1]", "a [[host]] with boot slots for arm64 under kvm")
    ]


def test_variants(tmp_path: Path) -> None:
    found = load(written(tmp_path, GOOD)).variants
    assert list(found) == ["cov", "control"]
    variant = found["cov"]
    assert (variant.series, found["control"].series) == ("llvm-cov", None)
    assert variant.build.toolchain.compiler == "clang-22"
    toolchain = variant.build.toolchain
    assert toolchain.linker == toolchain.linker_objects == "ld.lld-22"
    assert variant.build.kconfig.asked == {"LLVM_COV_KERNEL": "y"}
    assert variant.boot.recipe.arch == "x86_64"
    assert variant.boot.recipe.accelerator is Accelerator.KVM
    assert variant.boot.recipe.memory_mib == 2048
    assert variant.boot.recipe.counters is Counters.RESET
    assert variant.boot.care.deadlines.init == 180.0


def test_hosts(tmp_path: Path) -> None:
    remote, local = load(written(tmp_path, GOOD)).hosts
    assert remote.slots == {Slot.BUILD: 1, Slot.BOOT: 2}
    assert remote.key_file == tmp_path / "ssh-key"
    assert remote.known_hosts == HOST_KEY
    assert remote.labels == {"bigg"}
    assert remote.memory == 32 << 30
    assert local.address is None
    assert local.key_file is None


def test_an_agent_stands_in_for_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = changed('key_file = "ssh-key"\n', "")
    named = changed('key_file = "ssh-key"', 'agent = "agent.sock"')
    assert load(written(tmp_path, without), secrets=Secrets.UNUSED).hosts[0].agent is None
    assert load(written(tmp_path, named)).hosts[0].agent == tmp_path / "agent.sock"
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent.sock")
    assert load(written(tmp_path, without)).hosts[0].agent == Path("/run/agent.sock")
    assert load(written(tmp_path, named)).hosts[0].agent == tmp_path / "agent.sock"
    remote, local = load(written(tmp_path, GOOD)).hosts
    assert (remote.agent, local.agent) == (None, None)


@pytest.mark.parametrize("share", ["0", "1.5", "true", '"half"'])
def test_a_share_is_a_part(tmp_path: Path, share: str) -> None:
    (problem,) = problems_of(tmp_path, f"{GOOD}[schedule]\nbisections = {share}\n")
    assert problem.key == "schedule.bisections"
    assert "a part of the whole, 0.05 to 1" in str(problem)


def recipes(found: Settings) -> dict[str, tuple[str, str]]:
    """The digests by which results of the variants are known."""
    return {
        name: (one.build.digest, one.boot.recipe.digest) for name, one in found.variants.items()
    }


def test_labels(tmp_path: Path) -> None:
    text = changed('counters = "reset"', 'labels = ["fast"]')
    found = load(written(tmp_path, text.replace('"-22"\n', '"-22"\nlabels = ["bigg"]\n')))
    assert {one.boot_labels for one in found.variants.values()} == {frozenset({"fast"})}
    assert {one.build_labels for one in found.variants.values()} == {frozenset({"bigg"})}
    # Where it runs is no part of what it is.
    plain = load(written(tmp_path, changed('counters = "reset"', "")))
    assert recipes(found) == recipes(plain)


def test_mail(tmp_path: Path) -> None:
    found = load(written(tmp_path, GOOD))
    assert found.correspondence.from_address == "kwatch@example.org"
    assert found.correspondence.message_id_domain == "example.org"
    assert found.correspondence.owner == "operator@example.org"
    assert found.correspondence.release is Release.MODERATE
    assert found.smtp.security is Security.STARTTLS
    assert found.smtp.name == "example.org"
    assert found.smtp.password == "open sesame"
    assert "sesame" not in repr(found)


def test_defaults_are_those_of_the_domain(tmp_path: Path) -> None:
    plain = changed('memory = "2 GiB"\ncounters = "reset"\ndeadlines = { init = "3 min" }\n', "")
    profile = load(written(tmp_path, plain)).variants["cov"].boot
    bare = BootProfile(recipe=BootRecipe(accelerator=Accelerator.KVM))
    assert profile == bare


def test_credentials_come_from_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = changed('"password"', '"credential:smtp"').replace('"ssh-key"', '"credential:ssh"')
    missing = problems_of(tmp_path, text)
    assert [one.key for one in missing] == ["host[0].key_file", "mail.smtp.password_file"]
    assert "LoadCredential=smtp:" in str(missing[1])
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "smtp").write_text("s3cret")
    (credentials / "ssh").write_text("key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    found = load(written(tmp_path, text))
    assert found.smtp.password == "s3cret"
    assert found.hosts[0].key_file == credentials / "ssh"


def test_who_needs_no_secrets_can_do_without_them(tmp_path: Path) -> None:
    text = changed('"password"', '"credential:smtp"').replace('"ssh-key"', '"credential:ssh"')
    found = load(written(tmp_path, text), secrets=Secrets.UNUSED)
    assert found.smtp.password == ""
    assert found.hosts[0].key_file is None
    assert load(written(tmp_path, GOOD), secrets=Secrets.UNUSED).smtp.password == ""
    (tmp_path / "password").unlink()
    with pytest.raises(ConfigProblems, match=r"mail\.smtp\.password_file: .*No such file"):
        load(written(tmp_path, GOOD), secrets=Secrets.UNUSED)


def test_a_state_directory_that_is_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 96)
    (problem,) = problems_of(tmp_path, changed('directory = "state"', f'directory = "{long}"'))
    assert problem.key == "lab.state_directory"
    assert f"found one of {len(str(long))}" in str(problem)


def test_state_directory_comes_from_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = changed('state_directory = "state"\n', "")
    (missing,) = problems_of(tmp_path, text)
    assert missing.key == "lab.state_directory"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    assert load(written(tmp_path, text)).state.root == Path("/var/lib/one")


MISTAKES = [
    # what is written, what stands there instead, where the mistake is, words of the message
    ('url = "./next.git"', "url = 42", "tree[0].url", "expected a git URL"),
    ('url = "./next.git"', 'url = "ext::sh"', "tree[0].url", "a path starts with"),
    ('url = "./next.git"', 'url = "https://me:pw@git.example.org/x"', "tree[0].url", "credential"),
    ('url = "./next.git"', 'ulr = "./next.git"', "tree[0].ulr", "did you mean url?"),
    ('url = "./next.git"', "", "tree[0].url", "found nothing"),
    ('["next-*"]', "[]", "tree[0].tags", "a list of tag patterns, found []"),
    ('["next-*"]', '"next-*"', "tree[0].tags", 'found "next-*"'),
    ('busybox = "busybox"', "busybox = 7", "lab.busybox", "a path, or a table"),
    ('busybox = "busybox"', 'busybox = { arm = "x" }', "lab.busybox.arm", "did you mean arm64?"),
    ('name = "control"\n', 'name = "control"\narch = "riscv"\n', "variant[1].arch",
     '"x86_64" or "arm64"'),
    ('["next-*"]', '["--exec=x"]', "tree[0].tags[0]", "a pattern for tags"),
    ('["cov", "control"]', '["covv"]', "tree[0].variants[0]", "did you mean cov?"),
    ('["cov", "control"]', '["cov", "cov"]', "tree[0].variants", '"cov" more than once'),
    ('name = "control"', 'name = "COV"', "variant[1].name", "variant[0] has this name"),
    ('name = "next"', 'name = "../next"', "tree[0].name", "a name of letters"),
    ('name = "next"', 'name = "keep"', "tree[0].name", "take another"),
    ('name = "next"', 'name = ""', "tree[0].name", "a name of letters"),
    ("2026-01-02", '"2026-01-02"', "list[0].since", "without quotes"),
    ('"https://lore.', '"ftp://lore.', "list[0].url", "a URL (https or http)"),
    ('list = "patches"\n', 'list = "patchse"\n', "series[0].list", "did you mean patches?"),
    ('list = "patches"\n', "", "series[0]", "found neither"),
    ('list = "patches"\n', 'patches = ["ssh-key"]\n', "series[0].creates", "beside patches"),
    ('creates = ["kernel/llvm-cov/fs.c"]', "", "series[0]", "titles or creates"),
    ('"Author@Example.org"', '"author"', "series[0].senders[0]", "a mail address"),
    ('"-22"', '"22"', "toolchain[0].llvm_suffix", "a suffix"),
    ('"tinyconfig"', '"tiny"', "kconfig[0].base", "a target such as"),
    ('"tinyconfig"', '"./none.config"', "kconfig[0].base", "No such file"),
    ('"coverage.config"', '"none.config"', "kconfig[0].fragments[0]", "No such file"),
    ('"coverage.config"', '"password"', "kconfig[0]", "in line 1 of password"),
    ('accelerator = "kvm"', 'accelerator = "xen"', "profile[0].accelerator", '"auto", "kvm"'),
    ('accelerator = "kvm"', 'accelerator = "tcg"', "variant[0]", "for x86_64 under tcg"),
    ('"2 GiB"', '"2 GB"', "profile[0].memory", "units are B, KiB"),
    ('"2 GiB"', "inf", "profile[0].memory", "a size"),
    ('init = "3 min"', "init = -3", "profile[0].deadlines.init", "a time"),
    ('init = "3 min"', "inti = 3", "profile[0].deadlines.inti", "did you mean init?"),
    ("boot = 2 }", "boot = true }", "host[0].slots.boot", "found true"),
    ("{ build = 1, boot = 2 }", "{ boot = 2 }", "variant[0]", "with build slots"),
    ("slots = { boot = 1 }", "slots = {}", "host[1].slots", "room for a build"),
    ('address = "build.example.org"', "", "host[0].key_file", "without address"),
    ('user = "kwatch"\nkey_file', 'user = "kwatch"\njump = "nobody"\nkey_file', "host[0].jump",
     "the name of another host"),
    ('user = "kwatch"\nkey_file', "key_file", "host[0].user", "to log in with"),
    ('key_file = "ssh-key"', "", "host[0].key_file", "neither, and no $SSH_AUTH_SOCK"),
    ('name = "local"', 'name = "local"\nagent = "socket"', "host[1].agent", "without address"),
    ('key_file = "ssh-key"', 'key_file = "nokey"', "host[0].key_file", "No such file"),
    ('counters = "reset"', 'labels = ["big"]', "profile[0].labels[0]", "did you mean"),
    ('counters = "reset"', 'labels = ["slow"]', "profile[0].labels[0]",
     'a label of a [[host]] with boot slots, found "slow"'),
    ('"-22"\n', '"-22"\nlabels = ["fast"]\n', "toolchain[0].labels[0]", "with build slots"),
    ('counters = "reset"', 'labels = ["fast", "bigg"]', "variant[0]",
     "with boot slots for x86_64 under kvm labelled bigg, fast"),
    ('memory = "2 GiB"', 'memory = "33 GiB"', "variant[1]",
     "for x86_64 under kvm and 33792 MiB of memory for its guests, found none"),
    (HOST_KEY, "", "host[0].known_hosts", "ssh-keyscan -p 22 build.example.org"),
    (HOST_KEY, HOST_KEY[:-8], "host[0].known_hosts", "the public key of the machine"),
    (HOST_KEY, HOST_KEY.replace("-ed25519 ", "-rsa "), "host[0].known_hosts", "public key"),
    ('"operator@example.org"\ncontact', '"root@lab.local"\ncontact', "lab.owner", "example.org"),
    ('"operator@example.org"\ncontact', '"root@lab.test"\ncontact', "lab.owner", "example.org"),
    ('busybox = "busybox"', 'busybox = "."', "lab.busybox", "Is a directory"),
    ('password_file = "password"', "", "mail.smtp.password_file", "both user and"),
    ('"password"', '"password"\nsecurity = "plain"', "mail.smtp.security", "in clear"),
    ('"password"', '"credential:../x"', "mail.smtp.password_file", "the name of a credential"),
    ('host = "smtp.example.org"', "", "mail.smtp.host", "found nothing"),
    ('"./next.git"', '"https://me:pw@example.org/x"', "tree[0].url",
     'found "https://me:***@example.org/x"'),
    ("[blobs]", "[blob]", "blob", "did you mean blobs?"),
    ("[blobs]", '[web]\nhost_names = ["a:80"]\n[blobs]', "web.host_names[0]", "the name or IP"),
    ("[blobs]", "[[blobs]]", "blobs", "expected a table"),
    ('"1.5 GiB"', "0", "blobs.budget", "a size"),
    ("[[list]]", "[list]", "list", "in double brackets"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key", "words"), MISTAKES)
def test_one_mistake_makes_one_line(
    tmp_path: Path, old: str, new: str, key: str, words: str
) -> None:
    found = problems_of(tmp_path, changed(old, new))
    place = next(one for one in found if one.key == key)
    assert words in str(place)
    assert str(place).startswith(f"{tmp_path}/config.toml: {key}: expected ")


def test_the_line_of_a_mistake(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, changed('url = "./next.git"', "url = 42"))
    assert str(found) == (
        f"{tmp_path}/config.toml: tree[0].url: expected a git URL (https, http, git, ssh, file or "
        'a path), found 42 (in tree "next")'
    )


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """One of each row, as far as one does not hide the other."""
    text = GOOD
    keys: dict[str, str] = {}
    for old, new, key, _ in MISTAKES:
        section, dot, _ = key.partition(".")
        if dot and text.count(old) == 1 and section not in keys:
            text = text.replace(old, new)
            keys[section] = key
    assert len(keys) > 8
    assert set(keys.values()) <= {one.key for one in problems_of(tmp_path, text)}


@pytest.mark.parametrize("section", ["lab", "mail", "tree", "variant", "host"])
def test_a_section_is_missing(tmp_path: Path, section: str) -> None:
    text = re.sub(rf"(?m)^\[\[?{section}(\.\w+)?\]\]?\n(?:[^\[].*\n)*", "", GOOD)
    found = problems_of(tmp_path, text)
    assert section in [one.key for one in found]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a = 1\nb = \n", "line 2, column 5: expected TOML"),
        (b"a = 1\na = 2\n", "line 2, column 6: expected TOML"),
        (b"a = 1\na = 2\n", "a key or section occurs twice"),
        (b"[[tree]]\n[tree]\n", "all written [[like this]]"),
        (b"[tree]\n[[tree]]\n", "all written [[like this]]"),
        (b"[lab\n", "line 1, column 5: expected TOML"),
        (b'a = """', "end of document: expected TOML"),
        (b"# \xff\n", "line 1: expected UTF-8, found the byte 0xff"),
        (b"a = " + b"[" * 5000, "expected TOML"),
        (b"a = " + b"9" * 5000, "expected TOML"),
        (b"#" * (4 << 20) + b"\n", "expected at most"),
    ],
)
def test_no_toml(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigProblems, match=re.escape(words)):
        load(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
    | st.datetimes(timezones=st.just(UTC)) | st.times()
    | st.sampled_from(["next", "cov", "credential:x", "./x", "a@b.org", "1 GiB", "\0", "[x]"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["name", "slots", "smtp", "build", "x y", ""]), inner,
                      max_size=3),
    max_leaves=8,
)  # fmt: skip


def as_toml(value: object) -> str:
    match value:
        case None:
            return '"none"'
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + "".join(f"\\U{ord(char):08x}" for char in value) + '"'
        case list():
            return f"[{', '.join(map(as_toml, value))}]"
        case dict():
            return f"{{{', '.join(f'{as_toml(k)} = {as_toml(v)}' for k, v in value.items())}}}"
        case int() | float():
            return repr(value)
        case _:
            return value.isoformat()  # type: ignore[attr-defined,no-any-return]


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A good file in which some values are replaced by others."""
    lines = GOOD.splitlines()
    for index in draw(st.sets(st.integers(0, len(lines) - 1), min_size=1, max_size=6)):
        key, equals, _ = lines[index].partition(" = ")
        if equals:
            lines[index] = f"{key} = {as_toml(draw(VALUES))}"
        elif draw(st.booleans()):
            lines[index] = ""
    return "\n".join(lines)


@settings(max_examples=300, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(text=documents())
def test_whatever_is_written_gives_settings_or_problems(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with contextlib.suppress(ConfigProblems):
        assert isinstance(load(path), Settings)
        return
    assert problems_of(tmp_path, text)


# --- example, documentation and model say the same ------------------------------------------------


def keys_of_example() -> Iterator[tuple[str, str]]:
    """Section and key of each line of the example, commented out or not."""
    section = ""
    for line in EXAMPLE.read_text().splitlines():
        if header := re.fullmatch(r"(?:# )?(\[\[?[a-z_.]+\]\]?)", line):
            section = header[1]
        elif key := re.match(r"(?:# )?([a-z_]+) = ", line):
            yield section, key[1]


def tables_of_documentation() -> Iterator[tuple[str, str, str]]:
    """Section, key and default of each row of the documentation."""
    section = ""
    for line in DOCUMENTATION.read_text().splitlines():
        if header := re.match(r"(?:## |`)(\[\[?[a-z_.]+\]\]?)", line):
            section = header[1]
        elif line.startswith("Keys of `slots`"):
            section = "slots"
        elif row := re.match(r"\| `([a-z_]+)` \| [^|]+ \| ([^|]+) \|", line):
            yield section, row[1], row[2]


def taken(field: FieldInfo, value: object) -> object:
    """What a field makes of a value."""
    found: object = TypeAdapter(Annotated[field.annotation, field]).validate_python(  # type: ignore[arg-type]
        tuple(value) if isinstance(value, list) else value
    )
    return found


def test_the_example_has_every_key() -> None:
    inline = {("[[profile]]", "deadlines")}  # there as [profile.deadlines]
    sub = {("[mail]", "smtp")}
    wanted = {(header, key) for header, section in SECTIONS.items() for key in fields_of(section)}
    assert set(keys_of_example()) == wanted - inline - sub


def test_the_documentation_has_every_key_and_its_default() -> None:
    sections: dict[str, type[BaseModel]] = {**SECTIONS, "slots": model.HostSlots}
    rows = list(tables_of_documentation())
    assert sorted((section, key) for section, key, _ in rows) == sorted(
        (header, key) for header, section in sections.items() for key in fields_of(section)
    )
    for section, key, default in rows:
        field = fields_of(sections[section])[key]
        assert (default == "required") == field.is_required(), (section, key)
        if default != "required" and field.default is not None and key != "deadlines":
            value = tomllib.loads(f"x = {default.strip('`')}")["x"]
            assert taken(field, value) == field.default, (section, key)


def test_every_architecture_has_its_busybox() -> None:
    assert fields_of(model.Busybox).keys() == ARCHES.keys()


def test_the_names_of_sections_are_stable() -> None:
    assert {*TABLES, *ARRAYS} == {
        "lab", "tree", "list", "series", "toolchain", "kconfig", "profile", "variant", "host",
        "mail", "web", "blobs", "schedule",
    }  # fmt: skip


def with_credentials(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ssh-key", "smtp-password"):
        (folder / name).write_text("secret\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    monkeypatch.setenv("STATE_DIRECTORY", str(folder / "state"))


def copied(folder: Path, change: Callable[[str], str]) -> Path:
    (folder / "configs").symlink_to(PROJECT / "configs")
    patches = folder / "patches"
    patches.mkdir()
    for name in ("0001-first.patch", "0002-second.patch"):
        (patches / name).write_text("From 0\n")
    text = EXAMPLE.read_text().replace("/bin/busybox", str(folder / "busybox"))
    text = text.replace("[lab]", f'[lab]\nbusybox = "{folder}/busybox"')
    return written(folder, change(text))


def test_the_example_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_credentials(tmp_path, monkeypatch)
    found = load(copied(tmp_path, lambda text: text))
    assert [tree.name for tree in found.trees] == ["next", "mainline"]
    assert sorted(host.name for host in found.hosts) == ["build1", "kvm1", "kvm2"]
    assert found.correspondence.release is Release.MODERATE
    assert found.correspondence.regzbot is False
    assert found.variants["clang-22"].build.kconfig.asked["LLVM_COV_KERNEL_MCDC"] == "y"
    assert found.series[0].rule.senders == frozenset()


def test_what_the_example_comments_out_is_valid_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def uncomment(text: str) -> str:
        text = text.replace(f'# busybox = "{tmp_path}/busybox"\n', "")
        return re.sub(r"(?m)^# (?=\[\[?[a-z_.]+\]\]?$|[a-z_]+ = )", "", text)

    with_credentials(tmp_path, monkeypatch)
    found = load(copied(tmp_path, uncomment))
    assert found.series[1].files == tuple(
        tmp_path / "patches" / name for name in ("0001-first.patch", "0002-second.patch")
    )
    assert found.series[0].rule.senders == {"series-author@example.org"}
    assert found.variants["clang-19"].build.toolchain.linker_objects == "mold"


def test_commented_defaults_of_the_example_are_the_defaults() -> None:
    """What stands commented out right of a key with a default is that default."""
    section = ""
    for line in EXAMPLE.read_text().splitlines():
        if header := re.fullmatch(r"(?:# )?(\[\[?[a-z_.]+\]\]?)", line):
            section = header[1]
        elif found := re.fullmatch(r"# ([a-z_]+) = (.+)", line):
            field = fields_of(SECTIONS[section])[found[1]]
            if field.is_required() or field.default in (None, (), ""):
                continue
            value = tomllib.loads(f"x = {found[2]}")["x"]
            assert taken(field, value) == field.default, (section, found[1])
