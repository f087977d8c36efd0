"""Operations of a model: what was asked, the figures, the tables."""
