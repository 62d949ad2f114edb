"""Writes erlang_c.txt: the fewest servers for each of 10,000 random demands, one a line.

Evaluates Erlang's C formula as it is defined, by the sum over states, with 60 digits (mpmath), on the grid that
tests/it/erlang.rs draws with the same generator.
"""

from mpmath import exp, mp, mpf

mp.dps = 60
MASK = (1 << 64) - 1


class SplitMix64:
    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, bound):
        return (self.next() * bound) >> 64


def servers(arrivals, service, wait, late):
    offered = arrivals / service
    term, states, count = mpf(1), mpf(0), 0
    while True:
        # Here `term` is offered^count / count! and `states` the sum of those before it.
        states += term
        count += 1
        term = term * offered / count
        if count <= offered:
            continue
        waiting = term * count / (count - offered)
        probability = waiting / (states + waiting)
        if probability * exp(-(count * service - arrivals) * wait) <= late:
            return count


random = SplitMix64(14)
with open("erlang_c.txt", "w") as out:
    for _ in range(10_000):
        milli_arrivals = 1 + random.below(400_000)
        milli_service = 500 + random.below(100_000)
        micro_wait = 100 + random.below(1_000_000)
        late_ppm = 100 + random.below(200_000)
        c = servers(mpf(milli_arrivals) / 1000, mpf(milli_service) / 1000, mpf(micro_wait) / 10**6, mpf(late_ppm) / 10**6)
        out.write(f"{c}\n")
