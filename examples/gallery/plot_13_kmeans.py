"""
k-means with many centres
=========================

A picture in 24 colours: k-means on its pixels, here of a landscape made of a few waves.
"""

import matplotlib.pyplot as plt
import numpy as np

from mixtura import KMeans

v, u = np.mgrid[0:1:240j, 0:1:360j]
sky = np.stack([0.35 + 0.5 * v, 0.55 + 0.3 * v, 0.9 - 0.1 * v], axis=-1)
hills = 0.55 + 0.12 * np.sin(7 * u) + 0.05 * np.sin(23 * u + 1)
land = np.stack([0.2 + 0.3 * u, 0.5 - 0.3 * (v - hills), 0.2 + 0.1 * np.sin(30 * u * v)], axis=-1)
picture = np.clip(np.where((v > hills)[..., None], land, sky), 0, 1)

pixels = picture.reshape(-1, 3)
km = KMeans(24, random_state=0).fit(pixels)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
for ax, image, title in (
    (axes[0], picture, "all colours"),
    (axes[1], km.cluster_centers_[km.labels_].reshape(picture.shape), "24 colours"),
):
    ax.imshow(image)
    ax.set(title=title, xticks=[], yticks=[])
plt.show()
