"""Makes tests/data/trees.json: what XGBoost and scikit-learn compute on a small sparse problem.
Run by hand with both; the file is committed and read by tests/trees.rs."""
import json, sys
import numpy as np, scipy.sparse as sp, sklearn, xgboost as xgb
from sklearn.ensemble import RandomForestClassifier
rng = np.random.default_rng(11)
CLASSES, COLUMNS, TRAIN, TEST = 4, 40, 300, 200
rows, y = [], []
for i in range(TRAIN + TEST):
    k = int(rng.choice(CLASSES, p=[.4, .3, .2, .1])); row = {}
    for c in range(30):  # counts, as of words; each class has words of its own
        if rng.random() < (.45 if c % CLASSES == k and c < 20 else .12): row[c] = float(rng.integers(1, 4))
    for c in range(30, COLUMNS):  # real numbers of both signs, some stored as 0, some columns full
        if c >= 38 or rng.random() < .3: row[c] = round(float(rng.normal(k * .5 if c % 3 == 0 else 0)), 2) if rng.random() < .9 else 0.0
    rows.append(sorted(row.items())); y.append(k if rng.random() < .9 else int(rng.integers(CLASSES)))
indptr = np.cumsum([0] + [len(r) for r in rows]); indices = [c for r in rows for c, _ in r]; values = [v for r in rows for _, v in r]
X = sp.csr_matrix((np.array(values, np.float32), np.array(indices), indptr), shape=(len(rows), COLUMNS)); y = np.array(y)
A, T, ya, yt = X[:TRAIN], X[TRAIN:], y[:TRAIN], y[TRAIN:]
out = {"made with": f"xgboost {xgb.__version__}, scikit-learn {sklearn.__version__}", "columns": COLUMNS, "classes": CLASSES, "train": TRAIN,
    "indptr": indptr.tolist(), "indices": indices, "values": values, "labels": y.tolist(), "boosting": [], "forest": []}
for depth, rounds, rate in [(1, 3, 1.0), (3, 50, .1), (6, 20, .3)]:
    p = {m: xgb.XGBClassifier(n_estimators=rounds, max_depth=depth, learning_rate=rate, tree_method=m, n_jobs=2).fit(A, ya).predict_proba(X) for m in ("exact", "hist")}
    print(depth, rounds, rate, "exact - hist", abs(p["exact"] - p["hist"]).max(), abs(p["exact"] - p["hist"]).mean())
    out["boosting"].append({"maxDepth": depth, "rounds": rounds, "learningRate": rate, "probabilities": p["exact"].round(6).tolist()})
for depth in (3, 10):
    f = lambda seed: RandomForestClassifier(n_estimators=1000, max_depth=depth, random_state=seed, n_jobs=2).fit(A, ya).predict_proba(T)
    a, b = f(1), f(2); print(depth, "two forests apart", abs(a - b).max(), abs(a - b).mean())
    out["forest"].append({"maxDepth": depth, "trees": 2000, "probabilities": ((a + b) / 2).round(5).tolist()})
json.dump(out, open(sys.argv[1], "w"), separators=(",", ":"))
