from tinygan.datasets.mnist import Dataset, Split, cache_folder, load_mnist, read_idx  # temporary
