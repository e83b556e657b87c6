"""Brazilian Portuguese: figures: axes, marks, titles, captions and text alternatives."""

TEXTS = {
    "How often the lesson's figures come out": "Com que frequência saem os números da aula",
    (
        "Bars: so many runs were first below the threshold in this epoch, or in none of {count}. Framed: the lesson's "
        "epoch."
    ): (
        "Barras: quantas execuções ficaram abaixo do limiar primeiro nesta época, ou em nenhuma de {count}. "
        "Emoldurada: a época da aula."
    ),
    "{rule}, from lr {lr}": "{rule}, a partir de lr {lr}",
    "Scaling rules against their reference": "Regras de escala contra a sua referência",
    "loss above the reference": "perda acima da referência",
    "Runs with a class that is never predicted": "Execuções com uma classe que nunca é prevista",
    "{share} as in the lesson": "{share} como na aula",
    "none": "nenhuma",
    "first epoch below the threshold": "primeira época abaixo do limiar",
    (
        "Loss at frozen weights after {count} {noun}, less that of the reference, seed by seed: median and interval. "
        "Left of 0 the rule is better."
    ): (
        "Perda com pesos congelados após {count} {noun}, menos a da referência, semente a semente: mediana e "
        "intervalo. À esquerda de 0 a regra é melhor."
    ),
    "Share of the runs, with its exact 95 % interval; runs that differ in this setting alone are compared.": (
        "Fração das execuções, com o seu intervalo exato de 95 %; são comparadas execuções que diferem só neste ajuste."
    ),
    "seconds per epoch": "segundos por época",
    "epochs to the threshold": "épocas até o limiar",
    "batch size": "tamanho do lote",
    "{name}: {middle} ({low} to {high}, {count} runs)": "{name}: {middle} ({low} a {high}, {count} execuções)",
    "epoch {number:g}": "época {number:g}",
    "iterations": "iterações",
    "{cost} an example": "{cost} por exemplo",
    "{cost} an iteration": "{cost} por iteração",
    "measured": "medido",
    "not reached in {amount}": "não atingido em {amount}",
    "epoch": "época",
    "seconds of training": "segundos de treino",
    "{name}: {loss:.4f} after epoch {epoch:.0f}": "{name}: {loss:.4f} após a época {epoch:.0f}",
    "mean loss of the epoch": "perda média da época",
    "share of the runs": "fração das execuções",
    "{noun} trained on": "{noun} treinados",
    "loss at frozen weights": "perda com pesos congelados",
    "gradient noise scale": "escala de ruído do gradiente",
    "threshold {value:g}": "limiar {value:g}",
    "{run}: {value:.4g} at the end": "{run}: {value:.4g} no fim",
    "floor {value:.4f}": "piso {value:.4f}",
    "{run}: loss {loss:.3g}": "{run}: perda {loss:.3g}",
    "loss, times that of the same batch size": "perda, em vezes a do mesmo lote",
    "predicted class, and number of test digits": "classe prevista, e número de dígitos de teste",
    "Thin: every seed; thick: their median, with a band of one standard deviation over an epoch's iterations": (
        "Finas: cada semente; grossas: a mediana delas, com uma faixa de um desvio padrão sobre as iterações de uma "
        "época"
    ),
    "With a band of one standard deviation over an epoch's iterations": (
        "Com uma faixa de um desvio padrão sobre as iterações de uma época"
    ),
    "from {first:.4g} to {last:.4g}": "de {first:.4g} a {last:.4g}",
    "Predictions on the test digits; framed: a digit that is never predicted.": (
        "Previsões nos dígitos de teste; emoldurado: um dígito que nunca é previsto."
    ),
    "{run} never predicts {classes}": "{run} nunca prevê {classes}",
    "{run} predicts every class": "{run} prevê todas as classes",
    "With the softmax, the loss cannot fall below the floor, {floor:.4f}.": (
        "Com o softmax, a perda não pode cair abaixo do piso, {floor:.4f}."
    ),
    "ends at {loss}": "termina em {loss}",
    "Loss against epoch": "Perda por época",
    "Loss against seconds": "Perda por segundos",
    "The same losses, against the seconds that their epochs took.": (
        "As mesmas perdas, contra os segundos que as suas épocas levaram."
    ),
    "A line a configuration, the median of its seeds": "Uma linha por configuração, a mediana das suas sementes",
    "A line a configuration": "Uma linha por configuração",
    "Loss at frozen weights against {noun}": "Perda com pesos congelados por {noun}",
    "A line a run: no step is taken while it is measured.": (
        "Uma linha por execução: nenhum passo é dado enquanto se mede."
    ),
    "{scale:.3g} at a loss of {loss:.4g}": "{scale:.3g} com perda de {loss:.4g}",
    "Runs below the threshold": "Execuções abaixo do limiar",
    "The share of the runs that have been below the threshold by an epoch.": (
        "A fração das execuções que já ficaram abaixo do limiar até uma época."
    ),
    "The first {count} of {all}.": "As primeiras {count} de {all}.",
    "Predictions of the runs that missed the threshold": "Previsões das execuções que não atingiram o limiar",
    "Predictions of {runs}: {text}.": "Previsões de {runs}: {text}.",
    "; dashed: {thresholds}": "; tracejado: {thresholds}",
    "Gradient noise scale against {noun}": "Escala de ruído do gradiente por {noun}",
    "tr(Sigma) / |G|^2 (McCandlish et al. 2018): it has no single value, because it grows as the loss falls.": (
        "tr(Sigma) / |G|^2 (McCandlish et al. 2018): não tem um valor único, porque cresce à medida que a perda cai."
    ),
    "; at its end, the batch size.": "; na ponta, o tamanho do lote.",
    "Mean loss of every epoch.": "Perda média de cada época.",
    "Mean loss against the seconds trained.": "Perda média contra os segundos treinados.",
    "Loss on the evaluation's training {noun}.": "Perda nos {noun} de treino da avaliação.",
    "Runs that got below the threshold.": "Execuções que ficaram abaixo do limiar.",
    "Gradient noise scale along the runs.": "Escala de ruído do gradiente ao longo das execuções.",
    "{count} runs, such as {ends}": "{count} execuções, como {ends}",
    "{count} configurations, such as {ends}": "{count} configurações, como {ends}",
    ". All numbers are in the table of configurations and in that of every run.": (
        ". Todos os números estão na tabela das configurações e na de todas as execuções."
    ),
    "least {least}; most {most}": "mínimo {least}; máximo {most}",
    "not reached by {count}": "não atingido por {count}",
    "{things} by batch size and {label}": "{things}, por tamanho do lote e {label}",
    "Seconds per epoch": "Segundos por época",
    "Of a run: the median of its epochs without the first.": (
        "De uma execução: a mediana das suas épocas sem a primeira."
    ),
    "The same on every machine.": "Iguais em qualquer máquina.",
    "These iterations at what one costs at this batch size, the median over its runs.": (
        "Estas iterações ao custo de uma com este lote, a mediana das suas execuções."
    ),
    "Dotted: perfect scaling, by which twice the batch size needs half the iterations (Shallue et al. 2019).": (
        "Pontilhado: escala perfeita, em que o dobro do lote precisa da metade das iterações (Shallue et al. 2019)."
    ),
    "First epoch below the threshold": "Primeira época abaixo do limiar",
    "The first epoch with a mean loss below it.": "A primeira época com perda média abaixo dele.",
    "Where an epoch's seconds go": "Para onde vão os segundos de uma época",
    "Fitted: {iteration} for every iteration and {example} for every example.": (
        "Ajustado: {iteration} para cada iteração e {example} para cada exemplo."
    ),
    "Seconds per epoch as {iteration} an iteration plus {example} an example, and as measured.": (
        "Segundos por época como {iteration} por iteração mais {example} por exemplo, e como medidos."
    ),
    (
        "Medians over all else; {share:.0%} of the differences within a batch size lie between the values of "
        "{label}. A dash: half of the runs or more did not get there."
    ): (
        "Medianas sobre todo o resto; {share:.0%} das diferenças dentro de um tamanho de lote estão entre os valores "
        "de {label}. Um traço: metade das execuções ou mais não chegou lá."
    ),
    "{value} at {size}": "{value} em {size}",
    "from {first} to {last}": "de {first} a {last}",
    "Steps to the goal": "Passos até a meta",
    (
        "Bars: the interval of the median. Along a dotted line twice the batch size needs half the steps. Dashed, "
        "with its interval: the critical batch size. Open marks: not reached."
    ): (
        "Barras: o intervalo da mediana. Ao longo de uma linha pontilhada, o dobro do lote precisa da metade dos "
        "passos. Tracejado, com o seu intervalo: o tamanho crítico do lote. Marcas vazadas: não atingido."
    ),
    "{things} to the goal": "{things} até a meta",
    "At the critical batch size twice as many as the fewest possible are needed.": (
        "No tamanho crítico do lote é preciso o dobro do mínimo possível."
    ),
    "Best learning rate": "Melhor taxa de aprendizado",
    "Dashed: the square-root rule; dotted: the linear rule.": (
        "Tracejado: a regra da raiz quadrada; pontilhado: a regra linear."
    ),
    "Seconds to the goal": "Segundos até a meta",
    (
        "Steps at the measured cost of a step. Dash-dotted: the batch size that the fit expects to be soonest; open "
        "diamond: a round one near it, run as a check."
    ): (
        "Passos ao custo medido de um passo. Traço e ponto: o lote que o ajuste espera que chegue primeiro; losango "
        "vazado: um número redondo perto dele, executado para conferir."
    ),
    "Branches of one run": "Ramos de uma execução",
    (
        "The loss at a multiple of the batch size, with the square-root rule, over that at the same batch size: "
        "medians with their intervals; dotted: the tolerance; dashed: the critical batch size."
    ): (
        "A perda com um múltiplo do lote, com a regra da raiz quadrada, sobre a do mesmo lote: medianas com os seus "
        "intervalos; pontilhado: a tolerância; tracejado: o tamanho crítico do lote."
    ),
    "Gradient noise scale along a run": "Escala de ruído do gradiente ao longo de uma execução",
    (
        "tr(Sigma) / |G|^2 (McCandlish et al. 2018) along the first fresh seed of each best rate, beside the "
        "critical batch size as measured."
    ): (
        "tr(Sigma) / |G|^2 (McCandlish et al. 2018) ao longo da primeira semente nova de cada melhor taxa, ao lado "
        "do tamanho crítico do lote medido."
    ),
    "Steps against batch size.": "Passos por tamanho do lote.",
    "{things} against batch size.": "{things} por tamanho do lote.",
    "Best learning rate against batch size.": "Melhor taxa de aprendizado por tamanho do lote.",
    "Steps by learning rate, {goal}": "Passos por taxa de aprendizado, {goal}",
    "A mark a tuning seed, a line through the medians. Open marks, at the top: given up or not reached.": (
        "Uma marca por semente do ajuste, uma linha pelas medianas. Marcas vazadas, no alto: abandonado ou não "
        "atingido."
    ),
    "Steps to {goal} against the learning rate, by batch size. Best: {rates}": (
        "Passos até {goal} por taxa de aprendizado e tamanho do lote. Melhor: {rates}"
    ),
    "Seconds of training against batch size.": "Segundos de treino por tamanho do lote.",
    "goal": "meta",
    "line": "linha",
    "dashed line": "linha tracejada",
    "dotted line": "linha pontilhada",
    "open: not reached, at the training that it had": "vazado: não atingido, no treino que teve",
    "bar: the interval of the median over the seeds": "barra: o intervalo da mediana sobre as sementes",
    "open: not reached": "vazado: não atingido",
}
