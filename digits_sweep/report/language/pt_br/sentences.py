"""Brazilian Portuguese: the verdict, the lesson, predictions, the critical batch size; numbers."""

TEXTS = {
    "unreadable": "ilegível",
    "batch size {size}": "lote {size}",
    (
        "a loss behind {heads} is not the same measure, so these runs are not ranked by one; an error is "
        "(evaluation=fine evaluation.targets.test_error=[0.1])"
    ): (
        "uma perda depois de {heads} não é a mesma medida, por isso estas execuções não são ordenadas por ela; um "
        "erro é (evaluation=fine evaluation.targets.test_error=[0.1])"
    ),
    "these runs have different thresholds, so they are not ranked": (
        "estas execuções têm limiares diferentes, por isso não são ordenadas"
    ),
    "the threshold": "o limiar",
    " and behind ": " e depois de ",
    "{threshold:g}": "{threshold:g}",
    "a training error of {threshold:g}": "um erro de treino de {threshold:g}",
    "a test loss of {threshold:g}": "uma perda de teste de {threshold:g}",
    "a test error of {threshold:g}": "um erro de teste de {threshold:g}",
    "train loss": "perda de treino",
    "train error": "erro de treino",
    "test loss": "perda de teste",
    "test error": "erro de teste",
    (
        "{goal}: well below batch size {size} {interval} twice the batch needs about half the steps, well above it "
        "hardly fewer"
    ): (
        "{goal}: bem abaixo do lote {size} {interval}, dobrar o lote pede cerca da metade dos passos; bem acima "
        "dele, quase nenhum a menos"
    ),
    "{machine} ({iteration} an iteration, {example} an example)": (
        "{machine} ({iteration} por iteração, {example} por exemplo)"
    ),
    "{cost} about {size} is soonest, at {more:.0%} more examples than the fewest possible.": (
        "{cost}, cerca de {size} chega primeiro, com {more:.0%} mais exemplos que o mínimo possível."
    ),
    "{goal}: run at batch size {size}": "{goal}: executado com lote {size}",
    "{found}, it takes {median} steps [{low}, {high}] on {seeds} fresh seeds{seconds}; expected: {expected}.": (
        "{found}, leva {median} passos [{low}, {high}] em {seeds} sementes novas{seconds}; esperado: {expected}."
    ),
    "up to batch size {size:,}, the largest that was tried,": "até o lote {size:,}, o maior que foi testado,",
    "up to batch size {size:,}": "até o lote {size:,}",
    (
        "Branched from the run at batch size {size:,}, with the square-root rule, {upto} the loss after {examples:,} "
        "more examples is at most {tolerance:.0%} above that of the same batch size (medians of {orders} orders)."
    ): (
        "Em ramos da execução com lote {size:,}, com a regra da raiz quadrada, {upto} a perda após mais {examples:,} "
        "exemplos fica no máximo {tolerance:.0%} acima da do mesmo lote (medianas de {orders} ordens)."
    ),
    ", {seconds} of training": ", {seconds} de treino",
    "{goal}: the critical batch size cannot be told ({reason}).": (
        "{goal}: não dá para dizer qual é o tamanho crítico do lote ({reason})."
    ),
    "on a machine with these costs": "em uma máquina com estes custos",
    "on this machine": "nesta máquina",
    "{cost} an iteration costs nothing, and the smallest batch size is soonest.": (
        "{cost}, uma iteração não custa nada, e o menor lote chega primeiro."
    ),
    "{cost} an example costs nothing, and the largest batch size is soonest.": (
        "{cost}, um exemplo não custa nada, e o maior lote chega primeiro."
    ),
    "{found}, the goal was not reached; {expected} steps were expected.": (
        "{found}, a meta não foi atingida; {expected} passos eram esperados."
    ),
    "not reached": "não atingido",
    "{low} to {high}": "{low} a {high}",
    "{things} to {goal}": "{things} até {goal}",
    "{part} of {whole}": "{part} de {whole}",
    "{words} and {last}": "{words} e {last}",
    "digits": "dígitos",
    "examples": "exemplos",
    "every run": "em todas",
    "{count} more": "mais {count}",
    "{count} epoch": "{count} época",
    "{count} epochs": "{count} épocas",
    "{count} run": "{count} execução",
    "{count} runs": "{count} execuções",
    "{count} seed": "{count} semente",
    "{count} seeds": "{count} sementes",
    "{count} time": "{count} vez",
    "{count} times": "{count} vezes",
    "{count} configuration": "{count} configuração",
    "{count} configurations": "{count} configurações",
    (
        "{configuration}, lesson: {stated}; here: {here} (the lesson's in {share}, 95% interval {low:.0%} to "
        "{high:.0%})."
    ): (
        "{configuration}, aula: {stated}; aqui: {here} (o da aula em {share}, intervalo de 95% de {low:.0%} a "
        "{high:.0%})."
    ),
    "epoch {number:.0f}": "época {number:.0f}",
    "not within {count} epochs": "não em {count} épocas",
    (
        "An epoch at batch size {smaller} takes, against {larger}, lesson: {stated:.2g} times as long; here: "
        "{measured:.2g} times."
    ): (
        "Uma época com lote {smaller} leva, contra {larger}, na aula: {stated:.2g} vezes o tempo; aqui: "
        "{measured:.2g} vezes."
    ),
    "{epoch} in {share}": "{epoch} em {share}",
    "{count} runs have classes that they never predict; their losses are on a plateau: {names}.": (
        "{count} execuções têm classes que nunca preveem; suas perdas estão em um platô: {names}."
    ),
    "{count} runs have classes that they never predict: {names}.": (
        "{count} execuções têm classes que nunca preveem: {names}."
    ),
    "{name} never predicts {classes}: its loss is on a plateau.": (
        "{name} nunca prevê {classes}: sua perda está em um platô."
    ),
    "{name} never predicts {classes}.": "{name} nunca prevê {classes}.",
    "With the softmax, every class of {count} that is never predicted costs about {loss:.2g} of loss.": (
        "Com o softmax, cada classe de {count} que nunca é prevista custa cerca de {loss:.2g} de perda."
    ),
    "{host}: {cpu}, {cores} cores": "{host}: {cpu}, {cores} núcleos",
    ", with uncommitted changes": ", com mudanças fora do commit",
    "unknown: the program did not run from a checkout": "desconhecido: o programa não rodou de um checkout",
    "command": "comando",
    "data": "dados",
    "machine": "máquina",
    "system": "sistema",
    "versions": "versões",
    "commit": "commit",
    "a program of its own, recorded by digits_sweep.Recorder": (
        "um programa próprio, registrado por digits_sweep.Recorder"
    ),
    "Seconds are the iterations to it at what one costs at that batch size, the median over its runs.": (
        "Segundos são as iterações até lá ao custo de uma com aquele lote, a mediana das suas execuções."
    ),
    "{configuration} passed {goal} in {share} runs within {epochs}": (
        "{configuration} cruzou {goal} em {share} execuções em {epochs}"
    ),
    "{configuration} did not pass {goal} within {epochs}": "{configuration} não cruzou {goal} em {epochs}",
    "{count} configurations did not pass {goal}": "{count} configurações não cruzaram {goal}",
    "{count} configurations did not pass {goal} in half of their runs or more": (
        "{count} configurações não cruzaram {goal} em metade das suas execuções ou mais"
    ),
    (
        "Seed by seed {second} needs {ratio.median:.3g} times the {needs} of {best} ({ratio.low:.3g} to "
        "{ratio.high:.3g}), more of them in {share} seeds: that is no noise between seeds."
    ): (
        "Semente a semente, {second} precisa de {ratio.median:.3g} vezes os {needs} de {best} ({ratio.low:.3g} a "
        "{ratio.high:.3g}), de mais em {share} sementes: isso não é ruído entre sementes."
    ),
    "The seeds do not decide between {names}": "As sementes não decidem entre {names}",
    "{best} was sooner in {share} seeds": "{best} chegou antes em {share} sementes",
    "{best} was the one with fewer in {share} seeds": "{best} precisou de menos em {share} sementes",
    "; {count} seeds that agree are the fewest that can": "; no mínimo {count} sementes que concordem podem decidir",
    "No run has ended yet, so there is no verdict.": "Nenhuma execução terminou ainda, por isso não há veredito.",
    "These runs have different data sets, so they are not ranked; the table lists them separately.": (
        "Estas execuções têm conjuntos de dados diferentes, por isso não são ordenadas; a tabela as lista "
        "separadamente."
    ),
    "{problem}; the table lists them separately.": "{problem}; a tabela as lista separadamente.",
    (
        "The running loss is the mean over the last 3,000 examples trained on: good for an order, and late by some "
        "percent where the loss is steep. The loss at frozen weights (evaluation=fine) is exact."
    ): (
        "A perda corrente é a média dos últimos 3,000 exemplos treinados: serve para uma ordem, e atrasa alguns por "
        "cento onde a perda cai depressa. A perda com pesos congelados (evaluation=fine) é exata."
    ),
    "The {measure} at frozen weights, interpolated between the evaluations before and after.": (
        "Com pesos congelados: {measure}, por interpolação entre as avaliações antes e depois."
    ),
    "{configuration} passed {goal} after {amount}": "{configuration} cruzou {goal} após {amount}",
    "{configuration} after {amount}": "{configuration} após {amount}",
    "one run each: more seeds ({seeds}) show by how much a seed moves these": (
        "uma execução cada: mais sementes ({seeds}) mostram quanto uma semente muda estes números"
    ),
    "one run: more seeds ({seeds}) show by how much a seed moves this": (
        "uma execução: mais sementes ({seeds}) mostram quanto uma semente muda este número"
    ),
    "{count} iterations": "{count} iterações",
    "No run passed {goal} within {epochs}.": "Nenhuma execução cruzou {goal} em {epochs}.",
    "Up to {most} runs shared the machine, so their seconds are not compared.": (
        "Até {most} execuções dividiram a máquina, por isso seus segundos não são comparados."
    ),
    "{count} more later (see the table)": "mais {count} depois (veja a tabela)",
    "medians of {count} seeds": "medianas de {count} sementes",
    "medians of {least} to {most} seeds": "medianas de {least} a {most} sementes",
    "they have no seed in common ({seeds} for every one).": "elas não têm semente em comum ({seeds} para todas).",
    "seconds": "segundos",
}
