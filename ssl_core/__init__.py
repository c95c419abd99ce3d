"""The science: no network, no Flower, no processes, no clock of its own."""
