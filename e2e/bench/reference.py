"""scikit-learn's side of e2e/bench/training: the same search over the same rows, end to end from CSV.

usage: reference.py DATA SEARCH.json     (SEARCH.json: the trainer's config; STOPWORDS: our list, one word a line, on stdin)

A pipeline of TfidfVectorizer and LinearSVC or LogisticRegression under GridSearchCV with stratified,
grouped folds and two processes, refitted on all training rows, judged on the test rows. Prints JSON.
"""
import csv
import html
import json
import re
import resource
import sys
import time
import unicodedata

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

TAG = re.compile(r"<[^>]*>")
TOKEN = r"(?u)\b\w\w+\b"


def clean(text):
    text = TAG.sub(" ", html.unescape(text)).lower()
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def read(folder, features, labels):
    csv.field_size_limit(1 << 24)
    with open(f"{folder}/{features}", newline="", encoding="utf8") as f:
        texts = {row[""]: row["designation"] + " " + row["description"] for row in csv.DictReader(f)}
    with open(f"{folder}/{labels}", newline="", encoding="utf8") as f:
        rows = [(row[""], row["prdtypecode"]) for row in csv.DictReader(f)]
    return [texts[i] for i, _ in rows], np.array([label for _, label in rows])


def vectorizer(setting, stop):
    kind = TfidfVectorizer if setting["weighting"] == "TfIdf" else CountVectorizer
    options = {"sublinear_tf": setting["sublinearTf"]} if kind is TfidfVectorizer else {}
    return kind(preprocessor=clean, token_pattern=TOKEN, dtype=np.float32,
                ngram_range=(setting["ngramMin"], setting["ngramMax"]), max_features=setting["maxFeatures"],
                min_df=setting["minDf"], max_df=setting["maxDf"],
                stop_words=sorted(stop) if setting["stopWords"] == "French" else None, **options)


def candidate(entry, seed):
    (name, grid), = entry.items()
    model = LinearSVC(random_state=seed) if name == "linearSvm" else LogisticRegression(max_iter=1000)
    return model, grid["c"]


def main():
    start = time.perf_counter()
    folder, search = sys.argv[1], json.load(open(sys.argv[2], encoding="utf8"))
    stop = set(sys.stdin.read().split())
    x, y = read(folder, "X_train_update.csv", "Y_train_CVw08PX.csv")
    groups = [" ".join(re.findall(r"\w+", clean(text))) for text in x]
    xt, yt = read(folder, "X_test_update.csv", "Y_test_secret.csv")
    grid = []
    for setting in search["features"]:
        for entry in search["candidates"]:
            model, c = candidate(entry, search["seed"])
            grid.append({"features": [vectorizer(setting, stop)], "model": [model], "model__C": c})
    folds = StratifiedGroupKFold(search["folds"], shuffle=True, random_state=search["seed"])
    pipeline = Pipeline([("features", grid[0]["features"][0]), ("model", grid[0]["model"][0])])
    found = GridSearchCV(pipeline, grid, scoring="f1_weighted", cv=folds, n_jobs=2)
    found.fit(x, y, groups=groups)
    predicted = found.predict(xt)
    wall = time.perf_counter() - start
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    best = found.best_params_
    print(json.dumps({
        "wall_seconds": wall,
        "peak_bytes": max(u.ru_maxrss for u in usage) * 1024,  # of the largest process
        "trials": len(found.cv_results_["params"]),
        "best": {"model": type(best["model"]).__name__, "c": best["model__C"],
                 "stopWords": "French" if best["features"].stop_words else "None", "mean": found.best_score_},
        "f1_weighted": f1_score(yt, predicted, average="weighted"),
        "accuracy": accuracy_score(yt, predicted),
    }))


if __name__ == "__main__":
    main()
