"""The panels of diagnosis.png: each asks a question, and draws what an instrument measured."""
