"""Runs the trainer and scikit-learn on the same search and compares them; see e2e/bench/training."""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
import unicodedata

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))


def trainer_config(sample):
    """The trainer's config for the search of a TrainingRun, with the defaults of its schema."""
    spec = yaml.safe_load(open(sample, encoding="utf8"))["spec"]
    search = spec["search"]
    features = []
    for entry in search["features"]:
        text = entry["text"]
        word = text.get("word", {})
        low, high = word.get("ngramRange", [1, 2])
        features.append({
            "weighting": text.get("weighting", "TfIdf"), "ngramMin": low, "ngramMax": high,
            "maxFeatures": word.get("maxFeatures", 100000), "minDf": word.get("minDf", 1),
            "maxDf": word.get("maxDf", 1.0), "stopWords": text.get("stopWords", "None"),
            "stripAccents": text.get("stripAccents", True), "sublinearTf": text.get("sublinearTf", True)})
    candidates = [{name: {"c": [float(c) for c in grid["c"]]}} for entry in search["candidates"] for name, grid in entry.items()]
    return {"seed": spec.get("seed", 42), "folds": search.get("crossValidation", {}).get("folds", 3),
            "objective": search.get("objective", {}).get("metric", "F1Weighted"),
            "features": features, "candidates": candidates}


def stop_words():
    """The trainer's French list, from its source, with accents folded as the rows are."""
    source = open(f"{HERE}/../../server-image/model/src/stopwords.rs", encoding="utf8").read()
    words = re.findall(r'^\s+"([^"]+)",$', source, re.MULTILINE)
    assert len(words) > 100, "the list has moved"
    fold = unicodedata.normalize("NFD", " ".join(words))
    return sorted(set("".join(c for c in fold if not unicodedata.combining(c)).split()))


def ours(a, config):
    """One run: the test files and the training files to snapshots, then the search."""
    start, before = time.perf_counter(), os.times()
    ingest = [a.trainer, "ingest", "--text", "designation,description", "--label", "prdtypecode", "--id", "productid"]
    test, train = f"{a.work}/test", f"{a.work}/train"
    quiet = {"check": True, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    subprocess.run(ingest + ["--features", f"{a.data}/X_test_update.csv", "--labels", f"{a.data}/Y_test_secret.csv",
                             "--out", test], **quiet)
    subprocess.run(ingest + ["--features", f"{a.data}/X_train_update.csv", "--labels", f"{a.data}/Y_train_CVw08PX.csv",
                             "--out", train, "--split", "1,0,0", "--fixed-test", f"{test}/snapshot.parquet"], **quiet)
    out = subprocess.run([a.trainer, "train", "--data", train, "--config", config, "--out", f"{a.work}/model.safetensors",
                          "--report", f"{a.work}/report.json"], **quiet).stdout
    after, report = os.times(), json.loads(out)
    judged = next(m for m in report["metrics"] if m["split"] == "test")
    return {"wall_seconds": time.perf_counter() - start,
            "cpu_seconds": (after.children_user + after.children_system) - (before.children_user + before.children_system),
            "peak_bytes": report["peakMemoryBytes"], "trials": report["trials"]["total"], "best": report["best"],
            "f1_weighted": judged["values"]["F1Weighted"], "accuracy": judged["values"]["Accuracy"],
            "calibration_error": judged["values"]["CalibrationError"], "digest": report["model"]["digest"],
            "model_bytes": report["model"]["bytes"]}


def theirs(a, config, stop):
    before = os.times()
    out = subprocess.run([sys.executable, f"{HERE}/reference.py", a.data, config], input=stop, text=True, check=True,
                         stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}).stdout
    after = os.times()  # its worker processes were waited for by now
    cpu = (after.children_user + after.children_system) - (before.children_user + before.children_system)
    return {**json.loads(out), "cpu_seconds": cpu}


def spread(rows, key):
    values = [r[key] for r in rows]
    return {"min": round(min(values), 3), "median": round(statistics.median(values), 3), "max": round(max(values), 3)}


def main():
    p = argparse.ArgumentParser()
    for name in ("--trainer", "--data", "--work", "--sample"):
        p.add_argument(name, required=True)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--reference-runs", type=int, default=1)
    a = p.parse_args()
    search = trainer_config(a.sample)
    config = f"{a.work}/search.json"
    with open(config, "w", encoding="utf8") as f:
        json.dump(search, f)
    stop = "\n".join(stop_words())
    mine = [ours(a, config) for _ in range(a.runs)]
    for r in mine:
        print(f"vitrine       {r['wall_seconds']:8.1f} s wall {r['cpu_seconds']:8.1f} s CPU  F1 {r['f1_weighted']:.4f}  {r['best']['parameters']}")
    reference = [theirs(a, config, stop) for _ in range(a.reference_runs)]
    for r in reference:
        print(f"scikit-learn  {r['wall_seconds']:8.1f} s wall {r['cpu_seconds']:8.1f} s CPU  F1 {r['f1_weighted']:.4f}  {r['best']}")
    if len({r["digest"] for r in mine}) != 1:
        raise SystemExit("the same inputs gave different models")
    assert mine[0]["trials"] == reference[0]["trials"], "the searches differ"
    ratio = statistics.median(r["wall_seconds"] for r in reference) / statistics.median(r["wall_seconds"] for r in mine)
    print("RESULT " + json.dumps({
        "bench": "training", "data": os.path.basename(a.data), "trials": mine[0]["trials"], "folds": search["folds"],
        "vitrine": {"runs": a.runs, "wall_seconds": spread(mine, "wall_seconds"), "cpu_seconds": spread(mine, "cpu_seconds"),
                    "peak_bytes": spread(mine, "peak_bytes"), "f1_weighted": mine[0]["f1_weighted"], "accuracy": mine[0]["accuracy"],
                    "calibration_error": mine[0]["calibration_error"], "best": mine[0]["best"], "model_bytes": mine[0]["model_bytes"]},
        "scikit_learn": {"runs": a.reference_runs, "wall_seconds": spread(reference, "wall_seconds"),
                         "cpu_seconds": spread(reference, "cpu_seconds"), "peak_bytes": spread(reference, "peak_bytes"),
                         "f1_weighted": reference[0]["f1_weighted"], "accuracy": reference[0]["accuracy"], "best": reference[0]["best"]},
        "wall_ratio": round(ratio, 1)}))


if __name__ == "__main__":
    main()
