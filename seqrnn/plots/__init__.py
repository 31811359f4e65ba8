def draw(d):
    pass


def draw_samples(d):
    pass
