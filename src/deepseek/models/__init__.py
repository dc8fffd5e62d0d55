"""Networks: embeddings, encoders, fusions, trunks and whole models. No training code lives here."""
