"""A pytest plug-in: scikit-learn's own tests of LogisticRegression, run against softline's.

    pytest -p tests.upstream.swap --pyargs sklearn.linear_model.tests.test_logistic

While the tests are imported, the class that they import is softline's. Tests in EXCLUDED are expected to fail, each
for its reason; one that passes fails the run.
"""
