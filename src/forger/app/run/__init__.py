"""One run: build, train, resume, evaluate, generate."""
