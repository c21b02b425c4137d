"""What a conversion would cost, told before it is begun: `wdsremux plan`.

    forecast.py    the whole of it, from top to bottom
    places.py      which rows to look at; taking.py reads them; sampled.py makes a source of them
    looks.py       what they tell of the source
    choices.py     what is asked for, and what else is worth knowing; outlooks.py: what comes of each
    study.py       how the sample is converted; trials.py: what came of it; probes.py: what a worker tells of it
    today.py       training without us
    estimates.py   from the sample to the whole, by interval.py
    findings.py    plain values: what was found, what it costs, what it means
    advice.py      what it means, in sentences; wording.py: figures; report.py: text and JSON

It stands beside conversion and loading, and knows both; neither knows it.
"""
