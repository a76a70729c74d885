"""Makes tests/data/parity.json: what scikit-learn computes on a small problem.
Run by hand with scikit-learn; the file is committed and read by tests/parity.rs."""
import json, sys
import numpy as np, sklearn
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_recall_fscore_support
from sklearn.naive_bayes import ComplementNB
from sklearn.pipeline import FeatureUnion
from sklearn.svm import LinearSVC
A = "piscine,pompe,filtre,chlore,robot,bache,échelle,liner".split(",")
B = "chaise,table,armoire,étagère,chêne,tiroir,lit,lampe".split(",")
C = "roman,livre,poche,auteur,tome,édition,récit,poésie".split(",")
N = "grand,petit,neuf,bleu,rouge,lot,modèle,qualité,garantie,prix".split(",")
rng = np.random.default_rng(7)
docs, y = [], []
for i in range(150):
    k = int(rng.integers(3)); own = [A, B, C][k]
    words = [str(rng.choice(own if rng.random() < .45 else ([A, B, C][int(rng.integers(3))] if rng.random() < .4 else N))) for _ in range(int(rng.integers(3, 14)))]
    docs.append(" ".join(words)); y.append(k)
y = np.array(y); train = slice(0, 110); test = slice(110, 150)
out = {"made with": "scikit-learn " + sklearn.__version__, "documents": docs, "labels": y.tolist(), "train": 110, "tfidf": [], "svm": [], "logreg": [], "naiveBayes": []}
for name, cls, kw in [
    ("default", TfidfVectorizer, {}), ("bigrams", TfidfVectorizer, dict(ngram_range=(1, 2), sublinear_tf=True, min_df=2)),
    ("limits", TfidfVectorizer, dict(ngram_range=(1, 3), max_df=0.3, min_df=3)), ("counts", CountVectorizer, dict(ngram_range=(2, 2), min_df=2))]:
    v = cls(strip_accents="unicode", **kw).fit(docs[train]); X = v.transform(docs[test])
    row = lambda i: sorted([int(c), float(x)] for c, x in zip(X[i].indices, X[i].data))
    out["tfidf"].append({"name": name, "ngramRange": kw.get("ngram_range", (1, 1)), "sublinearTf": kw.get("sublinear_tf", False), "minDf": kw.get("min_df", 1), "maxDf": kw.get("max_df", 1.0),
        "weighting": "Count" if cls is CountVectorizer else "TfIdf", "terms": v.get_feature_names_out().tolist(), "rows": [row(i) for i in range(6)]})
marks = [", ", "-", " (", "'", "  ", "/"]
texts = ["".join(w + marks[(i + j) % 6] for j, w in enumerate(d.split())) for i, d in enumerate(docs)]
out["characters"] = {"documents": texts, "cases": []}
for name, cls, words, chars, factor in [
    ("together", TfidfVectorizer, dict(ngram_range=(1, 2), min_df=2), dict(ngram_range=(2, 5), min_df=3), 0.7),
    ("limits", TfidfVectorizer, dict(), dict(ngram_range=(3, 8), max_df=0.2, min_df=4), 1.0),
    ("counts", CountVectorizer, dict(), dict(ngram_range=(1, 4), min_df=2), 1.0)]:
    both = FeatureUnion([("w", cls(strip_accents="unicode", **words)), ("c", cls(strip_accents="unicode", analyzer="char_wb", **chars))], transformer_weights={"w": 1.0, "c": factor}).fit(texts[train]); X = both.transform(texts[test]).tocsr()
    w, c = (both.transformer_list[i][1].get_feature_names_out().tolist() for i in (0, 1))
    out["characters"]["cases"].append({"name": name, "weighting": "Count" if cls is CountVectorizer else "TfIdf", "words": words, "chars": chars, "weight": factor, "terms": w + c,
        "rows": [sorted([int(k), round(float(x), 9)] for k, x in zip(X[i].indices, X[i].data)) for i in range(4)]})
v = TfidfVectorizer(strip_accents="unicode", ngram_range=(1, 2)).fit(docs[train]); X, T = v.transform(docs[train]), v.transform(docs[test]); yt = y[train]
for c in (0.1, 1, 10):
    m = LinearSVC(C=c, tol=1e-8, max_iter=200000).fit(X, yt); s = m.decision_function(X)
    sign = np.where(np.arange(3)[None] == yt[:, None], 1, -1)
    obj = [.5 * (m.coef_[k] @ m.coef_[k] + m.intercept_[k] ** 2) + c * (np.maximum(0, 1 - sign[:, k] * s[:, k]) ** 2).sum() for k in range(3)]
    out["svm"].append({"c": c, "objective": obj, "scores": m.decision_function(T).round(6).tolist()})
    m = LogisticRegression(C=c, tol=1e-9, max_iter=20000).fit(X, yt); P = m.predict_proba(X)
    obj = -np.log(P[np.arange(len(yt)), yt]).mean() + (m.coef_ ** 2).sum() / (2 * c * len(yt))
    out["logreg"].append({"c": c, "objective": obj, "probabilities": m.predict_proba(T).round(6).tolist()})
K = CountVectorizer(strip_accents="unicode", ngram_range=(1, 2)).fit(docs[train])
for name, x, t in [("TfIdf", X, T), ("Count", K.transform(docs[train]), K.transform(docs[test]))]:
    for alpha in (0.01, 0.3, 1.0):
        m = ComplementNB(alpha=alpha).fit(x, yt)
        out["naiveBayes"].append({"weighting": name, "alpha": alpha, "scores": m.predict_joint_log_proba(t).round(6).tolist()})
P = LogisticRegression(C=1).fit(X, yt).predict_proba(T).astype(np.float32).astype(float); P = np.hstack([P, np.zeros((len(P), 1))])
truth = y[test].copy(); truth[0] = 3; pred = P.argmax(1); p, r, f, n = precision_recall_fscore_support(truth, pred, labels=range(4), zero_division=0)
P[0, 3] = 1e-3; P[0, :3] *= 1 - 1e-3
out["metrics"] = {"truth": truth.tolist(), "probabilities": P.tolist(), "accuracy": accuracy_score(truth, pred), "f1Weighted": f1_score(truth, pred, average="weighted", zero_division=0),
    "f1Macro": f1_score(truth, pred, average="macro", zero_division=0), "logLoss": log_loss(truth, P / P.sum(1, keepdims=True), labels=range(4)),
    "precision": p.tolist(), "recall": r.tolist(), "f1": f.tolist(), "support": n.tolist()}
json.dump(out, open(sys.argv[1], "w"), ensure_ascii=False, indent=None, separators=(",", ":"))
print({k: (v if isinstance(v, float) else None) for k, v in out["metrics"].items()}, [o["objective"] for o in out["svm"]], [o["objective"] for o in out["logreg"]])
