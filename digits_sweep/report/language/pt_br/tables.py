"""Brazilian Portuguese: tables of a page and of a terminal."""

TEXTS = {
    "goal and batch size": "meta e lote",
    "learning rate": "taxa de aprendizado",
    "steps": "passos",
    "while tuning": "durante o ajuste",
    "{low} to {high}, {seeds} seeds": "{low} a {high}, {seeds} sementes",
    "{goal}, batch size {size}": "{goal}, lote {size}",
    "lr {lr}, weight decay {decay}": "lr {lr}, weight decay {decay}",
    ", rule {rules}": ", regra {rules}",
    "fewer in {share} seeds, p = {p:.2g}": "menos em {share} sementes, p = {p:.2g}",
    "at the stop of {share}": "na parada de {share}",
    "{ratio:.1f} times as long": "{ratio:.1f} vezes o tempo",
    "configuration": "configuração",
    "sweep": "varredura",
    "s/epoch": "s/época",
    "against A": "contra A",
    "reaches the threshold": "atinge o limiar",
    "does not reach the threshold": "não atinge o limiar",
    "neither reaches the threshold": "nenhuma atinge o limiar",
    "{ratio:.2f} times as fast": "{ratio:.2f} vezes mais rápido",
    "{ratio:.2f} times as many": "{ratio:.2f} vezes a quantidade",
    "more than the noise, p = {p:.2g}": "mais que o ruído, p = {p:.2g}",
    "within the noise, p = {p:.2g}": "dentro do ruído, p = {p:.2g}",
    "reached": "atingiram",
    "final loss": "perda final",
    "test accuracy": "acurácia no teste",
    "{count} with a class never predicted": "{count} com uma classe nunca prevista",
    '"better"': '"melhor"',
    "too few runs to tell from noise": "execuções de menos para distinguir do ruído",
    "the same": "o mesmo",
    "in {seeds}": "em {seeds}",
    "lesson: first epoch": "aula: primeira época",
    "lesson: s/epoch": "aula: s/época",
    "not stated": "não dito",
    "{low} to {high}; above in {share}, p = {p:.2g}": "{low} a {high}; acima em {share}, p = {p:.2g}",
    "After {count} {noun}, at frozen weights.": "Após {count} {noun}, com pesos congelados.",
    "Which rule keeps up with its reference?": "Qual regra acompanha a sua referência?",
    "row of the lesson": "linha da aula",
    "what it does not state": "o que ela não diz",
    "first epoch here": "primeira época aqui",
    "as in the lesson": "como na aula",
    "dead digit": "dígito morto",
    "rule": "regra",
    "reference": "referência",
    "above the reference": "acima da referência",
    "above it": "acima dela",
    "factor": "fator",
    "values": "valores",
    "first": "primeiro",
    "second": "segundo",
    "only first": "só o primeiro",
    "only second": "só o segundo",
    "How often do the lesson's figures come out?": "Com que frequência saem os números da aula?",
    "When is a class never predicted?": "Quando uma classe nunca é prevista?",
    "Shares have their exact 95 % interval (Clopper and Pearson 1934).": (
        "As frações têm o seu intervalo exato de 95 % (Clopper e Pearson 1934)."
    ),
    (
        "Differences are seed by seed against the reference: the median and the interval that contains it, and the p "
        "value of the two-sided sign test, which is 0.06 at least with five seeds."
    ): (
        "As diferenças são semente a semente contra a referência: a mediana e o intervalo que a contém, e o valor p "
        "do teste do sinal bilateral, que com cinco sementes é no mínimo 0.06."
    ),
    (
        "At the end of the run, on the test set. Runs that differ in this factor alone, seed by seed; p: McNemar's "
        "exact test on the pairs that differ. A factor without such a pair has no row."
    ): (
        "No fim da execução, no conjunto de teste. Execuções que diferem só neste fator, semente a semente; p: teste "
        "exato de McNemar sobre os pares que diferem. Um fator sem um par assim não tem linha."
    ),
    "not reached in {epochs}": "não atingido em {epochs}",
    "first epoch below threshold": "primeira época abaixo do limiar",
    "first epoch < {threshold:g}": "primeira época < {threshold:g}",
    "lr": "lr",
    "weight decay": "weight decay",
    "{noun} to it": "{noun} até lá",
    "status": "estado",
    " ({count} at once)": " ({count} ao mesmo tempo)",
    "run": "execução",
    "batch": "lote",
    "decay": "decay",
    "loss": "perda",
    "test": "teste",
    "epoch<{threshold:g}": "época<{threshold:g}",
    ">30: not reached in 30 epochs, and so on": ">30: não atingido em 30 épocas, e assim por diante",
    "*: together with other runs on one machine": "*: junto com outras execuções na mesma máquina",
    "second lines: the interval that contains the median, see the page": (
        "segundas linhas: o intervalo que contém a mediana, veja a página"
    ),
}
