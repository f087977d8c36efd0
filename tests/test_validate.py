"""Predictions beside measurements: the published runs, a user's own log, and what can't be compared."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import llmcalc
from llmcalc.api.validation import validate
from llmcalc.catalog import Catalog
from llmcalc.errors import LlmcalcError
from llmcalc.validation.measured import QUANTITIES, Row, Summary, quantile

LOGS = Path(__file__).parent / "data" / "logs"


def cli(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "llmcalc", "validate", *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def published():
    return validate()


# -- published runs: errors may shrink, and never grow -------------------------------------------

RATCHET = {
    # builds, quantity: figures at least, median, 90th percentile, not exact at most
    ("2026", "weights"): (1, 0.001, 0.001, 0),
    ("2026", "kv_cache"): (7, 0.0, 0.0, 1),
    ("2026", "state"): (5, 0.0001, 0.0001, 0),
    ("2026", "activations"): (3, 0.0001, 0.21, 1),
    ("2026", "host_activations"): (2, 0.001, 0.001, 0),
    ("2025", "weights"): (2, 0.001, 0.001, 0),
    ("2025", "kv_cache"): (15, 0.0, 0.0001, 0),
    ("2025", "activations"): (3, 0.0001, 0.12, 1),
    ("2025", "host_activations"): (8, 0.001, 0.22, 1),
    ("2024", "weights"): (5, 0.001, 0.001, 0),
    ("2024", "kv_cache"): (7, 0.0, 0.0, 0),
    ("2024", "activations"): (7, 0.0001, 0.036, 1),
    ("2024", "host_activations"): (6, 0.001, 0.0011, 1),
    ("2023", "weights"): (13, 0.001, 0.001, 0),
    ("2023", "kv_cache"): (36, 0.0, 0.0, 0),
    ("ik", "weights"): (1, 0.001, 0.001, 0),
    ("ik", "kv_cache"): (58, 0.0, 0.0001, 1),
    ("mlx", "peak"): (32, 0.004, 0.015, 26),
    ("2024-2026", "activations"): (13, 0.0001, 0.14, 3),
    ("2024-2026", "devices"): (47, 0.0001, 0.0001, 4),
}

REFUSED = {("2026", "kv_cache"): 1, ("2024-2026", "devices"): 1}
"""A log of which one of several caches is known; refusals are misses."""


def test_every_quantity_of_every_year_has_a_bound(published):
    assert {(one.era, one.quantity) for one in published.summaries} == set(RATCHET)


@pytest.mark.parametrize(("era", "quantity"), RATCHET, ids="-".join)
def test_errors_do_not_grow(published, era, quantity):
    figures, median, p90, inexact = RATCHET[era, quantity]
    one = next(s for s in published.summaries if (s.era, s.quantity) == (era, quantity))
    assert one.rows >= figures
    assert one.refused == REFUSED.get((era, quantity), 0)
    assert one.median <= median + 5e-6  # half of the last printed digit
    assert one.p90 <= p90 + 5e-6
    assert one.rows - one.exact <= inexact


def test_compute_buffers_of_2024_to_2026(published):
    rows = [
        r for r in published.rows if r.quantity == "activations" and r.run["era"] in ("2024", "2025", "2026")
    ]
    errors = [abs(row.error) for row in rows]
    assert quantile(errors, 0.5) <= 0.0001
    assert quantile(errors, 0.75) <= 0.02


def test_ranges_hold(published):
    """The range of GPU buffers is the 5th to 95th percentile of these residuals."""
    rows = [r for r in published.rows if r.quantity == "activations"]
    assert sum(row.inside for row in rows) / len(rows) >= 0.8
    assert all((row.high - row.low) / row.predicted <= 0.2501 for row in rows)


def test_every_run_names_its_source():
    for run in Catalog.shipped().entries("measurements"):
        assert run["source"]
        if run["engine"] in ("llama.cpp", "mlx"):
            assert set(run["measured"]) <= {*QUANTITIES, "scratch", "kv_cache_full"}


# -- the arithmetic -----------------------------------------------------------------------------


def row(measured, predicted, low=None, high=None, refusal=""):
    run = {"name": "x", "era": "2026", "model": "m", "program": "p", "build": "b", "source": "s"}
    return Row(run, "kv_cache", measured, predicted, low or predicted, high or predicted, refusal)


def test_errors_are_relative_to_what_was_measured():
    assert row(100.0, 110.0).error == pytest.approx(0.1)
    assert row(0.0, 0.0).error == 0
    assert row(0.0, 5.0).error == 1


def test_a_refusal_is_a_miss():
    refused = row(100.0, 0.0, refusal="no such model")
    one = Summary("2026", "kv_cache", [row(100.0, 100.0), refused])
    assert (one.rows, one.refused, one.exact, one.covered) == (2, 1, 1, 0.5)
    assert refused.to_dict()["predicted_mib"] is None


def test_a_range_covers_what_lies_in_it():
    one = Summary("2026", "kv_cache", [row(100.0, 90.0, 80.0, 101.0), row(100.0, 90.0, 80.0, 95.0)])
    assert one.covered == 0.5
    assert one.width == pytest.approx((21 / 90 + 15 / 90) / 2)


def test_a_model_that_is_not_known_is_told(tmp_path):
    from llmcalc.validation.measured import compare_run

    run = {
        "name": "x", "era": "2026", "model": "no-such-model", "engine": "llama.cpp", "options": {}, "gpus": 1,
        "measured": {"kv_cache": 100.0},
    }  # fmt: skip
    (one,) = compare_run(run, llmcalc.vram)
    assert "no-such-model" in one.refusal


# -- a user's own log ---------------------------------------------------------------------------


def errors_of(found):
    return {(row.kind, row.device): row.error for row in found.rows}


def test_two_gpus_of_2024_to_the_digit():
    found = validate("llama-3-8b", log=LOGS / "2024-05-cuda-two-gpus.log")
    assert len(found.rows) == 9
    for row in found.rows:
        assert row.predicted == pytest.approx(row.printed, abs=0.0051), row.kind


def test_a_mac_of_2024_to_the_digit():
    for row in validate(log=LOGS / "2024-05-metal.log").rows:
        assert row.predicted == pytest.approx(row.printed, abs=0.011), row.kind


def test_a_window_on_the_cpu_in_2026_to_the_digit():
    for row in validate(log=LOGS / "2026-09-cpu-window.log").rows:
        assert row.predicted == pytest.approx(row.printed, abs=0.0051), row.kind


def test_latents_were_cached_twice_in_2025():
    found = validate("deepseek-v3-0324", log=LOGS / "2025-05-cuda-experts-on-cpu.log")
    caches = [(row.printed, row.predicted) for row in found.rows if row.kind == "kv_cache"]
    assert caches == [(510.0, 510.0), (408.0, 408.0), (408.0, 408.0), (748.0, 748.0)]


def test_layers_came_before_the_output_and_cells_in_steps_of_32_in_2025():
    found = validate(log=LOGS / "2025-08-vulkan-window.log", n_cpu_moe=14)
    errors = errors_of(found)
    assert abs(errors["weights", "Vulkan0"]) < 1e-4
    assert errors["kv_cache", "Vulkan0"] == 0
    assert abs(errors["activations", "Vulkan0"]) < 0.01


def test_a_draft_is_not_counted_with_the_model():
    log = LOGS / "2026-05-cuda-draft-and-projector.log"
    errors = errors_of(validate("qwen3.5-27b", log=log, quant="q4_k_m", engine_version="b9200"))
    assert errors["kv_cache", "CUDA0"] == 0
    assert errors["state", "CUDA0"] == 0
    assert abs(errors["activations", "CUDA0"]) < 0.025


def test_scratch_buffers_of_2023_are_not_predicted():
    found = validate(log=LOGS / "2023-12-cuda-two-gpus.log")
    assert "llama-7b" in found.doubt  # by its shape: the log does not name it
    told = {row.kind: row.predicted for row in found.rows}
    assert told["activations"] is None
    assert told["kv_cache"] == 256


def test_a_log_says_what_it_lacks():
    found = validate(log=LOGS / "2025-08-vulkan-window.log")
    assert "hyperparameters" in found.to_text()
    assert found.to_dict()["missing"] == ["the model's hyperparameters"]


@pytest.mark.parametrize("name", ["2025-08-metal-window-full.log", "2023-cuda-partial.log"])
def test_a_log_that_does_not_name_its_model(name):
    with pytest.raises(LlmcalcError, match="does not name its model"):
        validate(log=LOGS / name)


def test_a_log_of_a_model_that_is_not_known(tmp_path):
    file = tmp_path / "server.log"
    file.write_text(
        "print_info: general.name = Nobody-7B\nload_tensors: CPU model buffer size = 281.81 MiB\n"
    )
    with pytest.raises(LlmcalcError, match=r"not in the catalog \(Nobody-7B\)"):
        validate(log=file)


# -- the command --------------------------------------------------------------------------------


def test_the_table():
    done = cli("--era", "2026")
    assert done.returncode == 0, done.stderr
    assert "recurrent state" in done.stdout
    assert "range" in done.stdout
    assert "2025" not in done.stdout.partition("\n")[2]


def test_formats(tmp_path):
    markdown = cli("--era", "2026", "--format", "markdown", "--rows").stdout
    assert markdown.startswith("| builds |")
    assert "| run | build |" in markdown
    table = cli("--era", "2026", "--format", "csv").stdout
    assert table.splitlines()[0].startswith("name,era,program")
    told = json.loads(cli("--era", "2026", "--json").stdout)
    assert told["command"] == "validate"
    assert {one["era"] for one in told["summary"]} == {"2026"}


def test_a_log_by_the_command(tmp_path):
    done = cli("--log", str(LOGS / "2024-05-metal.log"), "--rows")
    assert done.returncode == 0, done.stderr
    assert "258.50" in done.stdout
    assert "compute buffer size" in done.stdout  # the line itself
    told = json.loads(cli("--log", str(LOGS / "2024-05-metal.log"), "--json").stdout)
    assert told["build"] == 2797


def test_the_plot(tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "errors.png"
    done = cli("--era", "2026", "--plot", str(picture))
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--era", "2022"], "no runs"),
        (["llama-3-8b"], "needs a log"),
        (["--log", "nowhere.log"], "can't be read"),
        (["--log", str(LOGS / "README.md")], "a log of another program"),
        (["--log", str(LOGS / "2024-05-metal.log"), "--format", "csv"], "has no csv"),
        (["--log", str(LOGS / "2024-05-metal.log"), "--plot", "x.png"], "Leave --log out"),
        (["no-such-model", "--log", str(LOGS / "2024-05-metal.log")], "no-such-model"),
        (["--plot", "picture.xyz", "--era", "2026"], "suffix"),
    ],
)
def test_bad_input(arguments, words):
    done = cli(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


# -- logs that are cut, and what the user adds ----------------------------------------------------


def cut(tmp_path, name, lines):
    """The first lines of a log."""
    text = (LOGS / name).read_text(encoding="utf-8").splitlines()[:lines]
    file = tmp_path / f"{lines}-{name}"
    file.write_text("\n".join(text) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("name", "lines"),
    [("2024-05-cuda-two-gpus.log", 26), ("2024-05-metal.log", 18)],
)
def test_a_log_cut_before_its_first_device(tmp_path, name, lines):
    file = cut(tmp_path, name, lines)
    with pytest.raises(LlmcalcError, match="prints none of weights"):
        validate("llama-3-8b", log=file)


def test_options_that_would_be_ignored_are_refused():
    with pytest.raises(LlmcalcError, match="--quant is for a log"):
        validate(quant="q4_k_m")
    with pytest.raises(LlmcalcError, match="--era chooses among the published"):
        validate(log=LOGS / "2024-05-metal.log", era="2025")


def test_what_equals_the_printed_digits_has_no_error():
    found = validate(log=LOGS / "2025-08-vulkan-window.log")
    output = next(row for row in found.rows if row.kind == "logits")
    assert output.predicted != output.printed
    assert output.error == 0
    assert "weights on GPUs" not in found.to_text()


def test_every_source_that_is_a_link_is_a_whole_one(published):
    text = published.to_markdown()
    links = [part.partition(")")[0] for part in text.split("](")[1:]]
    assert links
    assert all(link.startswith("https://") and " " not in link for link in links)
    assert "stored id" not in text


def test_a_log_cut_after_its_host(tmp_path):
    found = validate("llama-3-8b", log=cut(tmp_path, "2024-05-cuda-two-gpus.log", 27))
    assert [(row.device, row.predicted) for row in found.rows] == [("host", pytest.approx(281.81, abs=0.005))]


def test_a_log_cut_between_two_caches(tmp_path):
    found = validate("gemma-3-1b-it", log=cut(tmp_path, "2026-09-cpu-window.log", 99))
    (cache,) = [row for row in found.rows if row.kind == "kv_cache"]
    assert cache.printed == 16
    assert cache.predicted is None
    assert "one of two caches" in cache.why


def test_a_log_cut_within_its_gpus():
    found = validate("mixtral-8x7b", log=LOGS / "2024-01-ollama-journal-cut.log")
    assert "By its size the file is q4_0." in found.notes
    assert errors_of(found) == {
        ("weights", "host"): 0.0, ("weights", "CUDA0"): None, ("weights", "CUDA1"): None,
    }  # fmt: skip
    assert "do not add up to the file" in found.to_text()


@pytest.mark.parametrize(
    ("model", "name", "kinds", "options"),
    [
        ("llama-3.2-1b", "2025-hexagon-table.log", ["weights"], ["--quant"]),
        ("llama-3.1-8b", "2025-03-ollama-cpu.log", ["kv_cache", "logits", "activations"],
         ["-c", "-np", "-ub", "-fa", "--engine-version"]),
        ("gpt-oss-120b", "2025-08-metal-window-full.log", ["kv_cache", "activations"],
         ["-ngl", "-ub", "-fa", "--engine-version"]),
        ("qwen3.6-27b", "2026-rocm-measuring-pass.log", ["weights", "kv_cache", "activations"],
         ["--quant", "-c", "-ctk", "-ctv", "-ub", "-fa", "--engine-version"]),
    ],
)  # fmt: skip
def test_what_a_log_leaves_open_is_not_predicted(model, name, kinds, options):
    found = validate(model, log=LOGS / name)
    assert {row.kind for row in found.rows if row.predicted is None} == set(kinds)
    assert all(row.predicted is None for row in found.rows if row.kind in kinds)
    sentence = next(note for note in found.notes if note.startswith("Not predicted"))
    assert all(f"({option})" in sentence for option in options)
    assert "not told" in found.to_text().partition("\n")[0]
    assert found.to_dict()["open"]


def test_options_settle_it_to_the_digit():
    log = LOGS / "2025-03-ollama-cpu.log"
    found = validate(
        "llama-3.1-8b", log=log, n_ctx=32384, parallel=4, ubatch=512, flash_attn=False, engine_version="b4700"
    )
    assert found.open == []
    errors = errors_of(found)
    assert errors["kv_cache", "host"] == errors["activations", "host"] == 0
    assert errors["logits", "host"] == pytest.approx(-0.031, abs=0.001)
    assert any("embeddings" in note for note in found.notes)


def test_options_overrule_the_log():
    log = LOGS / "2024-05-cuda-two-gpus.log"
    held = {
        option: sum(
            row.predicted for row in validate(log=log, **{option: value}).rows if row.kind == "kv_cache"
        )
        for option, value in [("context", 4096), ("n_ctx", 4096), ("kv_dtype_k", "q8_0"), ("parallel", 2)]
    }
    assert held == {"context": 512, "n_ctx": 512, "kv_dtype_k": 784, "parallel": 1024}
    host = next(row for row in validate(log=log, gpu_layers=17).rows if row.kind == "weights")
    assert host.device == "host"
    assert host.predicted > 2000


def test_the_command_takes_what_python_takes():
    done = cli(
        "qwen3.6-27b", "--log", str(LOGS / "2026-rocm-measuring-pass.log"), "-c", "64k", "-ctk", "q8_0",
        "-ctv", "q8_0", "-np", "1", "-ub", "512", "-fa", "on", "--no-kv-unified", "--engine-version",
        "b9849", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    kinds = {(row["kind"], row["device"]): row for row in told["rows"]}
    assert kinds["kv_cache", "ROCm0"]["error"] == 0
    assert kinds["activations", "host"]["error"] == 0
    assert kinds["weights", "ROCm0"]["open"] == ["quant"]
    assert told["open"] == ["quant"]


def test_a_bad_option_for_a_log():
    done = cli("--log", str(LOGS / "2025-08-vulkan-window.log"), "-ngl", "many")
    assert done.returncode == 2
    assert "-ngl is 'many'" in done.stderr
    done = cli("-c", "4096")
    assert done.returncode == 2
    assert "is for a log" in done.stderr


def test_experts_on_the_cpu_are_noticed_and_their_number_found():
    found = validate(log=LOGS / "2025-08-vulkan-window.log")
    open_ = {row.kind for row in found.rows if "override_tensor" in row.open}
    assert open_ == {"weights", "activations"}
    assert "With --n-cpu-moe 14 the weights would lie as printed." in found.notes
    assert errors_of(found)["kv_cache", "Vulkan0"] == 0


def test_lines_of_tensors_put_elsewhere_are_used(tmp_path):
    lines = (LOGS / "2025-08-vulkan-window.log").read_text(encoding="utf-8").splitlines()
    moved = [
        f"tensor blk.{layer}.ffn_{part}_exps.{kind} (126 MiB mxfp4) buffer type overridden to CPU"
        for layer in range(14)
        for part in ("gate", "up", "down")
        for kind in ("weight", "bias")
    ]
    place = next(number for number, line in enumerate(lines) if "offloading 24 repeating" in line)
    file = tmp_path / "moved.log"
    file.write_text("\n".join([*lines[:place], *moved, *lines[place:]]) + "\n", encoding="utf-8")
    found = validate(log=file)
    assert abs(errors_of(found)["weights", "Vulkan0"]) < 1e-4
    assert found.open == []


def test_full_heads_and_one_cache_for_all_slots_in_early_2025():
    log = LOGS / "2025-04-rocm-eight-gpus.log"
    found = validate("deepseek-r1", log=log)
    caches = [row for row in found.rows if row.kind == "kv_cache"]
    assert len(caches) == 8
    assert all(row.error == 0 for row in caches)  # 8 layers on six GPUs, then 7 and 6
    assert found.report.scenario["kv_unified"] is True
    latent = [row for row in validate("deepseek-r1", log=log, mla=True).rows if row.kind == "kv_cache"]
    assert all(row.predicted < row.printed / 20 for row in latent)


def test_slots_of_the_server_and_snapshots_are_used():
    found = validate(log=LOGS / "2026-vulkan-hybrid-draft.log")  # the drafting context names the file
    assert found.report.model["name"] == "qwen3.8-27b"
    assert found.report.scenario["parallel"] == 4
    assert found.report.scenario["draft_max"] == 2
    errors = errors_of(found)
    assert errors["state", "Vulkan0"] == 0
    assert errors["logits", "host"] == 0


def test_the_number_of_cells_tells_a_context_that_is_not_printed(tmp_path):
    text = (LOGS / "2026-09-cpu-window.log").read_text(encoding="utf-8")
    file = tmp_path / "server.log"
    file.write_text("\n".join(line for line in text.splitlines() if "n_ctx " not in line), encoding="utf-8")
    found = validate(log=file)
    assert "n_ctx" not in found.open
    assert errors_of(found)["kv_cache", "host"] == 0


def test_types_of_tensors_tell_the_file(tmp_path):
    text = (LOGS / "2024-05-cuda-two-gpus.log").read_text(encoding="utf-8")
    bare = [line for line in text.splitlines() if "ftype" not in line and "model size" not in line]
    file = tmp_path / "server.log"
    file.write_text("\n".join(bare) + "\n", encoding="utf-8")
    found = validate(log=file)
    assert "By its tensors the file is q4_k_m." in found.notes
    assert all(row.error == 0 for row in found.rows)
    file.write_text("\n".join(line for line in bare if "q6_K" not in line) + "\n", encoding="utf-8")
    assert "quant" in validate(log=file).open


def test_a_file_of_another_mixture_is_told():
    found = validate(log=LOGS / "2025-05-cuda-experts-on-cpu.log")
    assert any("233.18 GiB" in note and "mixes other types" in note for note in found.notes)
    assert all(row.predicted is None for row in found.rows if row.kind == "weights")


@pytest.mark.parametrize(
    ("model", "name", "options"),
    [
        ("llama-2-7b-hf", "2023-12-metal.log", {}),
        ("llama-7b", "2023-cuda-partial.log", {}),
        ("llama-3-8b", "2024-05-cuda-two-gpus.log", {"engine_version": "2023"}),
        ("llama-3-8b", "2024-05-cuda-two-gpus.log", {"engine_version": "b1691"}),
    ],
)
def test_compute_buffers_of_2023_are_never_predicted(model, name, options):
    found = validate(model, log=LOGS / name, **options)
    buffers = [row for row in found.rows if row.kind == "activations"]
    assert buffers
    assert all(row.predicted is None and row.open == [] and "2023" in row.why for row in buffers)
    assert all(row.error == 0 for row in found.rows if row.kind == "kv_cache")


def test_what_is_not_modelled_says_so():
    fork = validate("deepseek-v3-0324", log=LOGS / "2025-05-ik-mla.log")
    assert all(row.predicted is None for row in fork.rows)
    assert any("ik_llama.cpp" in row.why for row in fork.rows if row.kind == "kv_cache")
    own = validate("gpt-oss-120b", log=LOGS / "2025-09-ollama-engine.log", quant="mxfp4_moe")
    assert all("Ollama's own engine" in row.why for row in own.rows if row.kind == "activations")
    assert all(row.predicted is not None for row in own.rows if row.kind == "weights")
    measured = validate(log=LOGS / "2026-09-cpu-window-measured.log")
    assert next(row for row in measured.rows if row.kind == "weights").predicted is None
    assert any("only measures" in note for note in measured.notes)


# -- measurements of a part, and together ---------------------------------------------------------


def test_caches_of_the_layers_without_a_window(published):
    rows = {row.run["name"]: row for row in published.rows if row.run["name"] in ("llog-0184", "llog-0185")}
    assert {name: (row.measured, row.predicted) for name, row in rows.items()} == {
        "llog-0184": (3072, 3072), "llog-0185": (512, 512),
    }  # fmt: skip
    refused = next(row for row in published.rows if row.run["name"] == "llog-0170")
    assert "DeepSeek-V4" in refused.refusal
    assert not refused.inside


def test_years_are_told_together_with_their_tail(published):
    text = published.to_text()
    assert "2024-2026" in text
    assert "90th percentile of their error is 13 %" in " ".join(text.split())
    assert "90th percentile" in published.to_markdown()
    assert "2024-2026" not in validate(era="2026").to_text()
