"""Trains scikit-learn's forest and XGBoost on the matrices that the example `trees` wrote, with its settings.
trees.py OUT [THREADS [FEATURES]]"""
import sys, time
import numpy as np, scipy.sparse as sp, xgboost as xgb
from sklearn.ensemble import RandomForestClassifier
out = sys.argv[1]; threads, features = [int(a) for a in sys.argv[2:]] + [2, 5000][len(sys.argv) - 2:]
def read(name):
    part = lambda kind, dtype: np.fromfile(f"{out}/{name}.{kind}", dtype)
    indptr = part("indptr", np.uint64).astype(np.int32)
    return sp.csr_matrix((part("values", np.float32), part("indices", np.uint32).astype(np.int32), indptr), shape=(len(indptr) - 1, features)), part("labels", np.uint32).astype(int)
for name in ("tfidf", "count"):
    (X, y), (T, t) = read(name + ".train"), read(name + ".test")
    print(f"{name}: {X.shape[0]} rows, {X.shape[1]} features, {X.nnz} values", flush=True)
    for method in ("hist", "exact"):
        s, c = time.time(), time.process_time(); m = xgb.XGBClassifier(n_estimators=50, max_depth=3, learning_rate=.1, tree_method=method, n_jobs=threads).fit(X, y); e, c = time.time() - s, time.process_time() - c
        print(f"boosting {method}: accuracy {(m.predict(T) == t).mean():.4f}, fit {e:.2f} s ({c:.2f} s CPU)", flush=True)
    for trees in (50, 100):
        for depth in (10, 20):
            accuracy, seconds, cpu = [], [], []
            for seed in range(3):
                s, c = time.time(), time.process_time(); m = RandomForestClassifier(n_estimators=trees, max_depth=depth, random_state=seed, n_jobs=threads).fit(X, y); seconds.append(time.time() - s); cpu.append(time.process_time() - c)
                accuracy.append((m.predict(T) == t).mean())
            print(f"forest trees={trees} depth={depth}: accuracy {np.mean(accuracy):.4f}, best fit {min(seconds):.2f} s ({min(cpu):.2f} s CPU), {sum(e.tree_.node_count for e in m.estimators_)} nodes", flush=True)
