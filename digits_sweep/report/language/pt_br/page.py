"""Brazilian Portuguese: the page around tables and figures, and its script."""

TEXTS = {
    "page": "página",
    "How long is an epoch, and when is the loss below the threshold?": (
        "Quanto dura uma época, e quando a perda fica abaixo do limiar?"
    ),
    "Which batch size pays, and which is soonest?": "Qual tamanho de lote compensa, e qual chega primeiro?",
    (
        "Steps are medians over fresh seeds at the rate with the least median while tuning, with their 95 % interval "
        "from order statistics (the whole range at 6 to 8 seeds); the same on every machine. Seconds are steps at "
        "what a step costs here. A run that misses the goal counts as infinity. The curve is S = S_min + E_min / B, "
        "the critical batch size E_min / S_min (McCandlish et al. 2018), its interval from drawing the seeds anew."
    ): (
        "Os passos são medianas sobre sementes novas, na taxa com a menor mediana durante o ajuste, com o seu "
        "intervalo de 95 % por estatísticas de ordem (a faixa toda com 6 a 8 sementes); iguais em qualquer máquina. "
        "Segundos são passos ao custo de um passo aqui. Uma execução que não atinge a meta conta como infinito. A "
        "curva é S = S_min + E_min / B, o tamanho crítico do lote E_min / S_min (McCandlish et al. 2018), o seu "
        "intervalo por reamostragem das sementes."
    ),
    "Steps, examples and seconds": "Passos, exemplos e segundos",
    "The two questions": "As duas perguntas",
    "Batch-size sweep": "Varredura do tamanho do lote",
    "table: {caption}": "tabela: {caption}",
    "Side by side": "Lado a lado",
    "Every configuration in every sweep, compared with A": "Cada configuração em cada varredura, comparada com A",
    (
        "Medians over the runs. A difference in seconds is more than the noise if it passes the two-sided test of "
        "Mann and Whitney over the runs at 5 %; three runs against three cannot pass it, four against four can. "
        "Examples are compared seed by seed, by the two-sided sign test; six seeds that agree are the fewest that "
        "pass it."
    ): (
        "Medianas das execuções. Uma diferença em segundos é mais que o ruído se passa no teste bilateral de Mann e "
        "Whitney sobre as execuções a 5 %; três execuções contra três não podem passar, quatro contra quatro podem. "
        "Exemplos são comparados semente a semente, pelo teste do sinal bilateral; seis sementes que concordam são o "
        "mínimo que passa."
    ),
    "The soonest configurations": "As configurações que chegam primeiro",
    "All {count} configurations, the soonest first": "Todas as {count} configurações, as que chegam antes primeiro",
    "All configurations": "Todas as configurações",
    (
        "Medians over the seeds; in small print the interval that contains the true median with 95 % probability, "
        "from order statistics: the whole range at 6 to 8 seeds, and with fewer seeds the whole range too, which "
        "then contains it less often (5 seeds: 94 %, 3 seeds: 75 %). A run that did not get below the threshold "
        "counts as infinity: it is not left out, and its last epoch is not counted as the first below. Runs whose "
        "whole configuration is the same are one run. The share of runs that reached the threshold has its exact "
        "interval (Clopper and Pearson, 95 %)."
    ): (
        "Medianas das sementes; em letra pequena o intervalo que contém a mediana verdadeira com probabilidade de 95 "
        "%, por estatísticas de ordem: a faixa toda com 6 a 8 sementes, e com menos sementes também a faixa toda, "
        "que então a contém menos vezes (5 sementes: 94 %, 3 sementes: 75 %). Uma execução que não ficou abaixo do "
        "limiar conta como infinito: não é deixada de fora, e a sua última época não conta como a primeira abaixo. "
        "Execuções com a mesma configuração inteira são uma só. A fração das execuções que atingiram o limiar tem o "
        "seu intervalo exato (Clopper e Pearson, 95 %)."
    ),
    "Do the runs of {sweep} agree with the lesson?": "As execuções de {sweep} concordam com a aula?",
    "Do the runs agree with the lesson?": "As execuções concordam com a aula?",
    "Figures": "Figuras",
    "Color: {what}.": "Cor: {what}.",
    "The numbers behind the figures:": "Os números por trás das figuras:",
    "configuration by configuration": "configuração por configuração",
    "run by run": "execução por execução",
    "What went wrong": "O que deu errado",
    "Nothing but what stands beside the verdict.": "Nada além do que está ao lado do veredito.",
    ("Nothing: every run ended normally, alone on the machine and all on one kind of machine, with steady timing."): (
        "Nada: cada execução terminou normalmente, sozinha na máquina e todas em um só tipo de máquina, com tempos "
        "estáveis."
    ),
    "Every run of {sweep}": "Todas as execuções de {sweep}",
    "Every run": "Todas as execuções",
    "The table is wider than this screen and scrolls sideways.": (
        "A tabela é mais larga que esta tela e rola para os lados."
    ),
    "{every_run}; a name leads to its losses and its configuration": (
        "{every_run}; um nome leva às suas perdas e à sua configuração"
    ),
    "Each run alone: losses, evaluations and configuration": "Cada execução sozinha: perdas, avaliações e configuração",
    "; dashed: the threshold": "; tracejado: o limiar",
    "Its files:": "Seus arquivos:",
    "Losses of {run}": "Perdas de {run}",
    "mean loss": "perda média",
    "deviation": "desvio",
    "Evaluations of {run}": "Avaliações de {run}",
    "error": "erro",
    "The configuration that all of them have in common": "A configuração que todas têm em comum",
    "No run of this sweep has been recorded yet.": "Nenhuma execução desta varredura foi registrada ainda.",
    "How these figures were made": "Como estes números foram feitos",
    "table": "tabela",
    ", with all columns": ", com todas as colunas",
    "Show rows with": "Mostrar linhas com",
    "any text": "qualquer texto",
    "%s of %s": "%s de %s",
    "Save as CSV": "Salvar como CSV",
    "Save as %s: %s": "Salvar como %s: %s",
}
