"""``--gpu auto``: recorded outputs of drivers' programs, real programs on the PATH, broken ones."""

import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import llmcalc
from llmcalc import machine
from llmcalc.catalog import Catalog
from llmcalc.cli import run
from llmcalc.errors import InputError
from llmcalc.hardware import parse_gpu, parse_gpus
from llmcalc.units import GIB, MIB

CATALOG = Catalog.shipped()
RECORDED = Path(__file__).parent / "data" / "machine"
KEPT = os.listdir(RECORDED)
REMEDY = "Name the card, such as rtx-4090, or its size."
MODEL = ["vram", "llama-3.1-8b", "--ctx", "8k", "--gpu", "auto"]
posix = pytest.mark.skipif(os.name != "posix", reason="the programs are shell scripts")


# -- names --------------------------------------------------------------------------------------

PRINTED = [
    ("NVIDIA GeForce RTX 4090", 24564, "RTX 4090"),
    ("GeForce RTX 3090", 24576, "RTX 3090"),
    ("NVIDIA GeForce RTX 4060 Ti", 8188, "RTX 4060 Ti 8GB"),
    ("NVIDIA GeForce RTX 4060 Ti", 16380, "RTX 4060 Ti 16GB"),
    ("NVIDIA GeForce RTX 5060 Ti", 16311, "RTX 5060 Ti 16GB"),
    ("NVIDIA GeForce RTX 3080", 10240, "RTX 3080"),
    ("NVIDIA GeForce RTX 3080", 12288, "RTX 3080 12GB"),
    ("NVIDIA GeForce RTX 3080 Laptop GPU", 16384, "RTX 3080 Laptop 16GB"),
    ("NVIDIA GeForce RTX 3060", 12288, "RTX 3060 12GB"),
    ("NVIDIA GeForce RTX 3060", 8192, "RTX 3060 8GB"),
    ("NVIDIA GeForce RTX 3050", 6144, "RTX 3050 6GB"),
    ("NVIDIA GeForce GTX 1060 6GB", 6144, "GTX 1060 6GB"),
    ("NVIDIA GeForce RTX 4070 Ti SUPER", 16376, "RTX 4070 Ti SUPER"),
    ("NVIDIA GeForce RTX 4090 Laptop GPU", 16376, "RTX 4090 Laptop"),
    ("NVIDIA TITAN RTX", 24576, "TITAN RTX"),
    ("Quadro RTX 8000", 49152, "Quadro RTX 8000"),
    ("Quadro RTX 6000", 24576, "Quadro RTX 6000"),
    ("NVIDIA RTX A2000", 6138, "RTX A2000 6GB"),
    ("NVIDIA RTX A2000 12GB", 12282, "RTX A2000 12GB"),
    ("NVIDIA RTX A6000", 49140, "RTX A6000"),
    ("NVIDIA RTX 6000 Ada Generation", 49140, "RTX 6000 Ada"),
    ("NVIDIA RTX 4000 SFF Ada Generation", 20475, "RTX 4000 SFF Ada"),
    ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97887, "RTX PRO 6000 Blackwell Workstation"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "RTX PRO 6000 Blackwell Server"),
    ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 97887, "RTX PRO 6000 Blackwell Max-Q"),
    ("Tesla T4", 15360, "T4"),
    ("Tesla T4", 15109, "T4"),
    ("Tesla P100-PCIE-16GB", 16280, "P100 16GB PCIe"),
    ("Tesla V100-SXM2-16GB", 16160, "V100 16GB SXM2"),
    ("Tesla V100-SXM2-32GB", 32510, "V100 32GB SXM2"),
    ("Tesla V100S-PCIE-32GB", 32510, "V100S 32GB PCIe"),
    ("NVIDIA A10", 23028, "A10"),
    ("NVIDIA A10G", 23028, "A10G"),
    ("NVIDIA A40", 46068, "A40"),
    ("NVIDIA A100-PCIE-40GB", 40960, "A100 40GB PCIe"),
    ("NVIDIA A100-SXM4-40GB", 40536, "A100 40GB SXM"),
    ("A100-SXM4-40GB", 40536, "A100 40GB SXM"),
    ("NVIDIA A100-SXM4-80GB", 81920, "A100 80GB SXM"),
    ("NVIDIA A100 80GB PCIe", 81920, "A100 80GB PCIe"),
    ("NVIDIA L4", 23034, "L4"),
    ("NVIDIA L40S", 46068, "L40S"),
    ("NVIDIA H100 80GB HBM3", 81559, "H100 SXM"),
    ("NVIDIA H100 PCIe", 81559, "H100 PCIe"),
    ("NVIDIA H100 NVL", 95830, "H100 NVL"),
    ("NVIDIA H20", 97871, "H20 96GB"),
    ("NVIDIA H200", 143771, "H200 SXM"),
    ("NVIDIA GH200 480GB", 97871, "GH200 96GB"),
    ("NVIDIA B200", 183359, "B200"),
    ("NVIDIA B300 SXM6 AC", 275040, "B300"),
    ("AMD Instinct MI300X", 196592, "MI300X"),
    ("AMD Instinct MI300X OAM", 196592, "MI300X"),
    ("AMD Instinct MI300X VF", 196288, "MI300X"),
    ("AMD Instinct\u2122 MI355X", 294896, "MI355X"),
    ("Arcturus GL-XL [AMD Instinct MI100]", 32752, "MI100"),
    ("AMD Radeon RX 7900 XTX", 24560, "RX 7900 XTX"),
    ("Radeon RX 7900 XT", 20464, "RX 7900 XT"),
    ("AMD Radeon(TM) RX 9070 XT", 16304, "RX 9070 XT"),
    ("Navi 31 [Radeon Pro W7900]", 49136, "Radeon PRO W7900"),
    ("AMD Radeon PRO W7900 Dual Slot", 49136, "Radeon PRO W7900"),
    ("AMD Radeon AI PRO R9700", 32704, "Radeon AI PRO R9700"),
    ("AMD Instinct MI50", 32752, "MI50 32GB"),
    ("Apple M3 Max", 64 * 1024, "Apple M3 Max (40-core GPU) 64GB"),
    ("Apple M1", 8 * 1024, "Apple M1 8GB"),
]


@pytest.mark.parametrize(("printed", "mib", "name"), PRINTED, ids=lambda value: str(value))
def test_names_as_drivers_print_them(printed, mib, name):
    entry = machine.entry_of(printed, mib * MIB, CATALOG)
    assert entry is not None
    assert entry["name"] == name


@pytest.mark.parametrize(
    ("printed", "mib"),
    [
        ("AMD Instinct MI250X", 65520),  # one of the two halves that it shows as cards
        ("NVIDIA GeForce RTX 4090", 49140),  # rebuilt with twice the memory
        ("AMD Instinct MI300X", 24576),  # a partition
        ("NVIDIA A10-8Q", 8192),  # a virtual card
        ("NVIDIA GeForce GTX 1060 3GB", 3072),
        ("Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]", 16368),  # any of three
        ("AMD Radeon Graphics", 512),
        ("NVIDIA V100", 8192),  # fits several, none of that size
        ("", 8192),
        ("[", 8192),
        ("[]", 8192),
    ],
)
def test_names_of_no_entry(printed, mib):
    assert machine.entry_of(printed, mib * MIB, CATALOG) is None


def totals(entry):
    """What a driver may tell of an entry's memory. [MiB]"""
    known = [entry.get("memory_mib_driver"), entry.get("memory_mib_runtime"), 1024 * entry["memory_gb"]]
    return [total for total in known if total]


OWN_GPUS = [
    entry
    for entry in CATALOG.entries("gpus")
    if entry["vendor"] in ("NVIDIA", "AMD", "Apple") and entry.get("memory_gb")
]


@pytest.mark.parametrize("entry", OWN_GPUS, ids=lambda entry: entry["name"])
def test_every_entry_is_found_by_its_own_names(entry):
    vendor, name = entry["vendor"], entry["name"]
    printed = [name]
    if vendor == "Apple":
        printed = [re.sub(r" (\(\d+-core GPU\) )?\d+GB$", "", name)]
    elif entry.get("kind") == "gpu":
        aliases = entry.get("aliases") or []
        printed += [
            f"{vendor} {name}",
            *(alias for alias in aliases if alias.startswith(f"{vendor.lower()}-")),
        ]
        printed += [f"NVIDIA GeForce {name}"] * bool(re.match(r"[RG]TX \d{4}\b(?! Ada|D$)", name))
    for word in printed:
        for total in totals(entry) if vendor != "Apple" else [1024 * entry["memory_gb"]]:
            found = machine.entry_of(word, int(total * MIB), CATALOG)
            assert found is not None, word
            assert found["name"] == name, word


def test_a_card_of_the_users_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("gpus:\n  - {name: my-card, aliases: [NVIDIA RTX 9999], vendor: NVIDIA, memory_gb: 48}\n")
    entry = machine.entry_of("NVIDIA RTX 9999", 49140 * MIB, Catalog([str(path)]))
    assert entry is not None
    assert entry["name"] == "my-card"


# -- programs -----------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The only programs on the PATH: each prints a recorded file (or a text) and exits with a code."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()

    def install(name, out="", code=0, err="", script=""):
        for stream, text in (("out", out), ("err", err)):
            content = (RECORDED / text).read_bytes() if text in KEPT else text.encode()
            (tmp_path / f"{name}.{stream}").write_bytes(content)
        script = script or (
            f"/bin/cat {tmp_path}/{name}.out\n/bin/cat {tmp_path}/{name}.err >&2\nexit {code}\n"
        )
        path = tmp_path / "bin" / name
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(0o755)

    return install


def by_option(first, second, option):
    """A script that prints another file where an option is among its words."""
    print_second, print_first = (f"/bin/cat {RECORDED / name}" for name in (second, first))
    return f'case " $* " in *" {option} "*) {print_second};; *) {print_first};; esac\n'


@pytest.fixture
def mac(monkeypatch):
    def pretend(version):
        monkeypatch.setattr(platform, "system", lambda: "Darwin")
        monkeypatch.setattr(platform, "mac_ver", lambda: (version, ("", "", ""), "arm64"))

    return pretend


def refusal():
    with pytest.raises(InputError) as caught:
        machine.find_gpus(CATALOG)
    assert caught.value.problem.startswith("--gpu auto finds no GPU that it can read: ")
    assert caught.value.problem.isprintable()
    assert len(caught.value.problem) < 600
    assert caught.value.remedy == REMEDY
    return caught.value.problem


@posix
def test_equal_cards_are_one_device_with_what_the_fullest_has_left(programs):
    programs("nvidia-smi", "nvidia_two.csv")
    (device,) = machine.find_gpus(CATALOG)
    assert (device.name, device.count, device.memory_bytes) == ("RTX 4090", 2, 24564 * MIB)
    assert device.usable_bytes == device.usable_high == 23575 * MIB
    assert device.usable_low == (23575 - 150) * MIB
    assert device.basis == "free now on the fullest, of this machine (nvidia-smi)"


@posix
def test_unlike_cards_are_a_device_each(programs):
    programs("nvidia-smi", "NVIDIA GeForce RTX 3090, 24576, 1, 24258\nNVIDIA X9, 49140, 40, 48600\n")
    programs("rocm-smi", "rocm_one.json")
    nvidia, unknown, amd = machine.find_gpus(CATALOG)
    assert (nvidia.name, nvidia.count, nvidia.usable_bytes) == ("RTX 3090", 1, 24258 * MIB)
    assert nvidia.basis == "free now, of this machine (nvidia-smi)"
    assert (unknown.name, unknown.memory_bytes) == ("NVIDIA X9", 49140 * MIB)
    assert (amd.name, amd.memory_bytes) == ("RX 7900 XT", 21458059264)
    assert amd.usable_bytes == 21458059264 - 27856896
    assert amd.basis == "free now, of this machine (rocm-smi)"
    assert (nvidia.vendor, unknown.vendor, amd.vendor) == ("NVIDIA", "NVIDIA", "AMD")


@posix
def test_a_gpu_that_shares_the_systems_memory(programs, monkeypatch):
    monkeypatch.setattr(machine, "MEMINFO", str(RECORDED / "meminfo_gb10.txt"))
    programs("nvidia-smi", "nvidia_gb10.csv")
    (device,) = machine.find_gpus(CATALOG)
    assert (device.name, device.count) == ("GB10", 1)
    assert device.memory_bytes == 127600748 * 1024
    assert device.usable_bytes == 118566368 * 1024
    assert device.shared_bytes == device.shared_low == 118566368 * 1024  # available: less the system's own
    assert "available now" in device.basis


@posix
@pytest.mark.parametrize("word", ["[N/A]", "[Not Supported]", "N/A", "[Unknown Error]"])
def test_a_card_of_its_own_that_tells_no_memory(programs, word):
    programs("nvidia-smi", f"NVIDIA L4, {word}, {word}, {word}\n")
    assert "no memory of NVIDIA L4" in refusal()


@posix
def test_a_shared_gpu_where_the_system_tells_nothing_either(programs, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "MEMINFO", str(tmp_path / "none"))
    programs("nvidia-smi", "nvidia_gb10.csv")
    assert "no memory of NVIDIA GB10" in refusal()


@posix
def test_slices_of_a_card(programs):
    programs("nvidia-smi", script=by_option("nvidia_slice.csv", "nvidia_slice_list.txt", "-L"))
    assert "MIG splits a card into 3g.40gb, 1g.10gb" in refusal()


@posix
def test_a_slice_that_the_list_does_not_show(programs):
    programs("nvidia-smi", "nvidia_slice.csv")
    assert "nvidia-smi tells no memory of NVIDIA A100-SXM4-80GB" in refusal()


@posix
@pytest.mark.parametrize(
    ("out", "code", "words"),
    [
        ("nvidia_no_driver.txt", 9, "couldn't communicate with the NVIDIA driver"),
        ("nvidia_mismatch.txt", 18, "Driver/library version mismatch"),
        ("No devices were found\n", 6, "No devices were found"),
        ("No devices were found\n", 0, "No devices were found"),
        ("", 0, "nvidia-smi fails with exit code 0"),
        ("", 255, "nvidia-smi fails with exit code 255"),
        ("NVIDIA L4, 23034, 3, 22563\n", 255, "nvidia-smi fails with exit code 255"),
        ("NVIDIA L4, 23034, 3, 22563\nNVIDIA L4, 230", 0, "'NVIDIA L4, 230'"),
        (
            "NVIDIA L4, 23034, 3, 22563\nUnable to determine the device handle for GPU 0000:3B:00.0\n",
            0,
            "Unable",
        ),
        ("name, memory.total [MiB], memory.used [MiB], memory.free [MiB]\n", 0, "no memory of name"),
        ("NVIDIA L4, 23034, 3, 99999\n", 0, "no memory of NVIDIA L4"),
        ("NVIDIA L4, 23034, 3, [N/A]\n", 0, "no memory of NVIDIA L4"),
        ("NVIDIA L4, 0, 0, 0\n", 0, "no memory of NVIDIA L4"),
        ("NVIDIA L4, -5, 0, -5\n", 0, "no memory of NVIDIA L4"),
        ("NVIDIA L4, 23.034, 0.003, 22.563\n", 0, "no memory of NVIDIA L4"),
        ("NVIDIA L4, 23 034, 3, 22 563\n", 0, "no memory of NVIDIA L4"),
        ("NVIDIA L4, " + ", ".join(["9" * 5000] * 3), 0, "no memory of NVIDIA L4"),
        (", 23034, 3, 22563\n", 0, "23034"),
        ("\x1b[31m\x00\x07" * 400, 0, "?"),
        ("x" * 100_000, 0, "xxx..."),
        ("NVIDIA GT 710, 980, 1, 950\n", 0, "NVIDIA GT 710 has 980 MiB of its own"),
    ],
    ids=range(21),
)
def test_what_nvidia_smi_may_print_instead(programs, out, code, words):
    programs("nvidia-smi", out, code)
    problem = refusal()
    assert words in problem
    assert "there is no rocm-smi or amd-smi" in problem


@posix
def test_bytes_that_are_no_text(programs):
    programs("nvidia-smi", script="printf '\\377\\376\\000'\n")
    assert "nvidia-smi says" in refusal()


@posix
def test_answers_beside_a_warning_count(programs):
    """Exit code 14: the infoROM is corrupted, which says nothing of the memory."""
    warning = "WARNING: infoROM is corrupted at gpu 0000:0A:00.0\n"
    programs("nvidia-smi", f"Tesla V100-SXM2-16GB, 16160, 0, 16100\n{warning}", 14)
    (device,) = machine.find_gpus(CATALOG)
    assert device.name == "V100 16GB SXM2"


@posix
def test_a_program_that_hangs_is_left(programs, monkeypatch):
    monkeypatch.setattr(machine, "TIMEOUT", 0.3)
    programs("nvidia-smi", script="exec /bin/sleep 60\n")
    start = time.monotonic()
    assert "nvidia-smi gives no answer in 0.3 s" in refusal()
    assert time.monotonic() - start < 10


@posix
def test_a_hanging_program_does_not_hide_another_maker(programs, monkeypatch):
    monkeypatch.setattr(machine, "TIMEOUT", 0.5)
    programs("nvidia-smi", script="exec /bin/sleep 60\n")
    programs("rocm-smi", "rocm_one.json")
    assert [device.name for device in machine.find_gpus(CATALOG)] == ["RX 7900 XT"]


@posix
def test_a_program_that_does_not_start(programs, tmp_path):
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/no/such/interpreter\n")
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    assert "nvidia-smi can't be started" in refusal()


@posix
def test_programs_run_in_the_plain_locale(programs, monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    programs("nvidia-smi", script='echo "NVIDIA $LC_ALL, 23034, 3, 22563"\n')
    assert machine.find_gpus(CATALOG)[0].name == "NVIDIA C"


@posix
def test_graphics_of_a_processor_are_passed_over(programs):
    programs("rocm-smi", "rocm_two.json")
    (device,) = machine.find_gpus(CATALOG)
    assert device.name == "Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]"
    assert device.usable_bytes == 17163091968 - 692142080


@posix
def test_rocm_smi_of_older_days_and_with_warnings(programs):
    card = {
        "Card series": "0x744c",
        "Card model": "Radeon RX 7900 XTX",
        "VRAM Total Memory (B)": 25753026560,
        "VRAM Total Used Memory (B)": "0",
    }
    text = "\nWARNING: AMD GPU device(s) is/are in a low-power state\n\n" + json.dumps({"card1": card})
    programs("rocm-smi", text, 2)
    assert machine.find_gpus(CATALOG)[0].name == "RX 7900 XTX"


@posix
@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("{", "rocm-smi says '{'"),
        ("{}", "rocm-smi says '{}'"),
        ("[1]", "rocm-smi says"),
        ("WARNING: No JSON data to report\n", "No JSON data"),
        ('{"card0": {"Card Series": "AMD X", "VRAM Total Memory (B)": "N/A"}}', "no memory of AMD X"),
        (
            '{"card0": {"VRAM Total Memory (B)": "9", "VRAM Total Used Memory (B)": "10"}}',
            "no memory of AMD GPU",
        ),
        ('{"card0": "N/A", "system": {}}', "rocm-smi says"),
        ("[" * 100_000, "rocm-smi says"),
    ],
    ids=range(8),
)
def test_what_rocm_smi_may_print_instead(programs, out, words):
    programs("rocm-smi", out)
    assert words in refusal()


@posix
def test_rocm_smi_without_a_driver(programs):
    programs("rocm-smi", "", 1, err="rocm_no_driver.txt")
    assert "rocm-smi says 'cat: /sys/module/amdgpu/initstate: No such file or directory'" in refusal()


@posix
@pytest.mark.parametrize("wrapped", [True, False])
def test_amd_smi_is_asked_where_rocm_smi_tells_nothing(programs, tmp_path, wrapped):
    files = {}
    for name in ("amd_static", "amd_metric"):
        told = json.loads((RECORDED / f"{name}.json").read_text())
        files[name] = tmp_path / f"{name}.json"
        files[name].write_text(json.dumps(told if wrapped else told["gpu_data"]))
    programs("rocm-smi", "", 1)
    programs("amd-smi", script=by_option(files["amd_static"], files["amd_metric"], "metric"))
    (device,) = machine.find_gpus(CATALOG)
    assert (device.name, device.count, device.memory_bytes) == ("MI300X", 2, 196592 * MIB)
    assert device.usable_bytes == 156309 * MIB
    assert device.basis == "free now on the fullest, of this machine (amd-smi)"


@posix
def test_amd_smi_is_not_asked_twice_over(programs):
    programs("rocm-smi", "rocm_one.json")
    programs("amd-smi", script="exit 1\n")
    assert len(machine.find_gpus(CATALOG)) == 1


@posix
@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("[]", "amd-smi"),
        ("null", "amd-smi"),
        ('[{"gpu": 0, "mem_usage": "N/A"}]', "amd-smi tells no memory of AMD GPU"),
        ('[{"gpu": 0, "mem_usage": {"total_vram": {"value": 9, "unit": "TB"}}}]', "no memory of AMD GPU"),
        ('[{"gpu": 0, "mem_usage": {"total_vram": 196592}}]', "no memory of AMD GPU"),
    ],
    ids=range(5),
)
def test_what_amd_smi_may_print_instead(programs, metric, words):
    programs("amd-smi", metric)
    assert words in refusal()


# -- Apple --------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize(
    ("gib", "chip", "version", "limits", "name"),
    [
        (64, "Apple M3 Max", "14.7", (48, 48, 48), "Apple M3 Max (40-core GPU) 64GB"),
        (64, "Apple M3 Max", "15.5", (48, 48, 53.76), "Apple M3 Max (40-core GPU) 64GB"),
        (128, "Apple M4 Max", "15.1", (96, 107.52, 107.52), "Apple M4 Max (40-core GPU) 128GB"),
        (128, "Apple M1 Ultra", "14.7", (96, 96, 96), "Apple M1 Ultra 128GB"),
        (512, "Apple M3 Ultra", "26.1", (384, 463.872, 463.872), "Apple M3 Ultra 512GB"),
        (16, "Apple M1", "13.6", (10.667, 10.667, 10.667), "Apple M1 16GB"),
        (16, "Apple M3", "26.0", (10.667, 10.67, 11.84), "Apple M3 16GB"),
        (16, "Apple M3", "", (10.667, 10.67, 11.84), "Apple M3 16GB"),
        (48, "Apple M9", "26.0", (36, 36, 37.44), "Apple M9"),
    ],
)
def test_the_default_limit_of_a_mac(programs, mac, gib, chip, version, limits, name):
    mac(version)
    programs("sysctl", f"{gib * GIB}\n{chip}\n0\n")
    (device,) = machine.find_gpus(CATALOG)
    assert (device.name, device.count, device.memory_bytes) == (name, 1, gib * GIB)
    found = (device.usable_low, device.usable_bytes, device.usable_high)
    assert found == pytest.approx([limit * GIB for limit in limits], rel=1e-3)
    assert list(found) == sorted(found)
    assert "default working-set limit of this machine" in device.basis


@posix
def test_a_recorded_mac(programs, mac):
    mac("14.7")
    programs("sysctl", "sysctl_m3_max.txt")
    assert machine.find_gpus(CATALOG)[0].usable_bytes == 48 * GIB


@posix
def test_a_limit_set_by_hand(programs, mac):
    mac("15.5")
    programs("sysctl", f"{64 * GIB}\nApple M3 Max\n57344\n")
    (device,) = machine.find_gpus(CATALOG)
    assert device.usable_low == device.usable_bytes == device.usable_high == 56 * GIB
    assert device.basis == "iogpu.wired_limit_mb of this machine (sysctl)"


@posix
def test_a_limit_above_all_memory(programs, mac):
    mac("15.5")
    programs("sysctl", f"{64 * GIB}\nApple M3 Max\n999999\n")
    assert machine.find_gpus(CATALOG)[0].usable_bytes == 64 * GIB


@posix
def test_a_macos_without_that_limit(programs, mac):
    mac("13.6")
    programs("sysctl", f"{16 * GIB}\nApple M2\n", 1, err="sysctl: unknown oid 'iogpu.wired_limit_mb'\n")
    assert machine.find_gpus(CATALOG)[0].usable_bytes == 16 * GIB * 2 // 3


@posix
@pytest.mark.parametrize(
    ("out", "code", "words"),
    [
        (
            f"{32 * GIB}\nIntel(R) Core(TM) i9-9880H CPU @ 2.30GHz\n",
            1,
            "no Apple silicon but Intel(R) Core(TM) i9",
        ),
        ("", 1, "sysctl fails with exit code 1"),
        ("garbage\n", 0, "sysctl says 'garbage'"),
    ],
)
def test_what_a_mac_may_print_instead(programs, mac, out, code, words):
    mac("14.0")
    programs("sysctl", out, code)
    assert words in refusal()


@posix
def test_sysctl_is_asked_on_macs_alone(programs):
    programs("sysctl", "sysctl_m3_max.txt")
    if platform.system() != "Darwin":
        assert "sysctl" not in refusal()


# -- words of --gpu -----------------------------------------------------------------------------


@posix
def test_auto_beside_other_gpus(programs):
    programs("nvidia-smi", "nvidia_two.csv")
    table = llmcalc.vram("llama-3.1-8b", gpu=["h200", " AUTO ", "24GiB"])
    assert [row.device.name for row in table] == ["H200 SXM", "RTX 4090", "24GiB"]
    assert [row.gpus for row in table] == [1, 2, 1]


@posix
def test_the_python_api_and_the_reserve(programs):
    programs("nvidia-smi", "NVIDIA L4, 23034, 3, 22563\n")
    report = llmcalc.vram("llama-3.1-8b", gpu="auto", reserve="2GiB", quant="q8_0")
    assert report.device.usable_bytes == (22563 - 2048) * MIB
    assert report.device.basis == "free now, of this machine (nvidia-smi), less the reserve"
    assert report.verdict == "fits"
    assert "--gpu auto" in report.call.shown()


@pytest.mark.parametrize("word", ["2xauto", "1 x AUTO", "8*auto"])
def test_a_number_of_auto_is_refused(word):
    with pytest.raises(InputError, match="auto counts this machine's GPUs itself") as caught:
        parse_gpus(word, CATALOG, machine.find_gpus)
    assert caught.value.remedy.startswith("Write --gpu auto")


def test_auto_is_no_single_gpu():
    with pytest.raises(InputError) as caught:
        parse_gpu("auto", CATALOG)
    assert caught.value.remedy == REMEDY


@posix
def test_more_ranks_than_this_machine_has(programs):
    programs("nvidia-smi", "NVIDIA L4, 23034, 3, 22563\n")
    with pytest.raises(InputError, match="does not use the 1 GPUs"):
        llmcalc.vram("llama-3.1-8b", gpu="auto", tp=2)


@posix
def test_a_full_card(programs, capsys):
    programs("nvidia-smi", "NVIDIA L4, 23034, 22563, 0\n")
    assert run(MODEL) == 2
    _, err = capsys.readouterr()
    assert "L4 has no memory left: free now, of this machine (nvidia-smi)." in err
    assert "--reserve" not in err


@posix
def test_no_gpu_beside_another_mistake(programs, capsys):
    assert run([*MODEL, "--tp", "3"]) == 2
    _, err = capsys.readouterr()
    assert "there is no nvidia-smi, rocm-smi or amd-smi" in err
    assert "--tp 3" in err
    assert REMEDY in err


# -- the command line, in processes of its own --------------------------------------------------


def spawn(*arguments):
    command = [sys.executable, "-m", "llmcalc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@posix
def test_the_command_line(programs):
    programs("nvidia-smi", "nvidia_two.csv")
    done = spawn(*MODEL)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 x RTX 4090" in done.stdout
    assert "23.99 GiB (24,564 MiB), 23.02 GiB usable" in done.stdout
    told = json.loads(spawn(*MODEL, "--json", "--reserve", "1GiB").stdout)
    assert told["device"]["count"] == 2
    assert told["device"]["usable_bytes"] == (23575 - 1024) * MIB
    assert told["scenario"]["gpu"] == "RTX 4090"
    assert spawn(*MODEL, "--check").returncode == 0
    assert spawn(*MODEL, "--check", "--reserve", "20GiB").returncode == 1


@posix
def test_the_other_makers_on_the_command_line(programs):
    programs("rocm-smi", "rocm_one.json")
    assert "RX 7900 XT" in spawn(*MODEL).stdout


@posix
def test_a_mac_on_the_command_line(programs):
    programs("sysctl", "sysctl_m3_max.txt")
    script = (
        "import platform, sys\n"
        "platform.system = lambda: 'Darwin'\n"
        "platform.mac_ver = lambda: ('14.7', ('', '', ''), 'arm64')\n"
        f"from llmcalc.cli import run; sys.exit(run({MODEL!r}))\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "48.00 GiB usable" in done.stdout


@posix
@pytest.mark.parametrize("command", ["vram", "quant", "compare"])
def test_no_gpu_on_the_command_line(programs, command):
    models = ["llama-3.1-8b", "gpt-3"] if command == "compare" else ["llama-3.1-8b"]
    done = spawn(command, *models, "--gpu", "auto")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert "there is no nvidia-smi, rocm-smi or amd-smi" in done.stderr
    assert done.stderr.endswith(f"{REMEDY}\n")


def test_nobody_else_starts_programs():
    script = (
        "import sys\n"
        "from llmcalc.cli import run\n"
        "run(['vram', 'llama-3.1-8b', '--gpu', 'rtx-4090'])\n"
        "print([name for name in ('subprocess', 'llmcalc.machine') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
