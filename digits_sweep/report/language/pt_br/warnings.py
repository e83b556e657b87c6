"""Brazilian Portuguese: what went wrong, how runs ended, and what tells sweeps apart."""

TEXTS = {
    "{name} failed after {epochs}: {why}": "{name} falhou após {epochs}: {why}",
    "{count} runs failed ({names}): {why}": "{count} execuções falharam ({names}): {why}",
    "{name} diverged: the mean loss of epoch {epoch} is {loss}.": (
        "{name} divergiu: a perda média da época {epoch} é {loss}."
    ),
    "{count} runs diverged: {names}.": "{count} execuções divergiram: {names}.",
    (
        "{name} was resumed {times}: its losses are those of an uninterrupted run, but its seconds come from several "
        "processes."
    ): (
        "{name} foi retomada {times}: suas perdas são as de uma execução sem interrupção, mas seus segundos vêm de "
        "vários processos."
    ),
    (
        "{count} runs were resumed: their losses are those of uninterrupted runs, but their seconds come from "
        "several processes: {names}."
    ): (
        "{count} execuções foram retomadas: suas perdas são as de execuções sem interrupção, mas seus segundos vêm "
        "de vários processos: {names}."
    ),
    "{count} of {runs} not started: {names}.": "{count} de {runs} não começou: {names}.",
    "{names} was trained with another {changed} from epoch {epoch} on.": (
        "{names} foi treinada com outro {changed} a partir da época {epoch}."
    ),
    "{names} were trained with another {changed} from epoch {epoch} on.": (
        "{names} foram treinadas com outro {changed} a partir da época {epoch}."
    ),
    "{names}: {why}; the figures leave it out.": "{names}: {why}; os números a deixam de fora.",
    "{names}: {why}; the figures leave them out.": "{names}: {why}; os números as deixam de fora.",
    "The runs mix {count} machines: {names}. Their seconds are not comparable.": (
        "As execuções misturam {count} máquinas: {names}. Seus segundos não são comparáveis."
    ),
    "The runs that missed the threshold were not trained equally long: {lengths} epochs.": (
        "As execuções que não atingiram o limiar não treinaram por igual: {lengths} épocas."
    ),
    "{runs} shared the machine (up to {most} at once): the seconds are longer than those of a run alone.": (
        "{runs} em máquina dividida (até {most} ao mesmo tempo): os segundos são mais longos que os de uma execução "
        "sozinha."
    ),
    (
        "The epochs of {runs} of {all} were timed unsteadily: the middle half of them spreads over more than "
        "{limit:.0%} of the median, in {name} over {most:.0%}. Another program may have used the machine."
    ): (
        "O tempo das épocas de {runs} de {all} é instável: a metade central delas se espalha por mais de {limit:.0%} "
        "da mediana, em {name} por {most:.0%}. Outro programa pode ter usado a máquina."
    ),
    "{name} was interrupted after {epochs} or is still running{why}; the medians leave it out.": (
        "{name} foi interrompida após {epochs} ou ainda está rodando{why}; as medianas a deixam de fora."
    ),
    "{count} runs were interrupted or are still running{why}; the medians leave them out: {names}.": (
        "{count} execuções foram interrompidas ou ainda estão rodando{why}; as medianas as deixam de fora: {names}."
    ),
    "The runs mix {count} {things}: {values}.": "As execuções misturam {count} {things}: {values}.",
    "thresholds": "limiares",
    "data sets": "conjuntos de dados",
    "engines": "motores",
    "devices": "dispositivos",
    "versions of torch": "versões do torch",
    "commits of this program": "commits deste programa",
    "At batch size {size} the runs mix numbers of threads: {threads}.": (
        "Com lote {size} as execuções misturam números de threads: {threads}."
    ),
    "Trained on {used} instead of {requested}: {note}.": "Treinado em {used} em vez de {requested}: {note}.",
    "{value} in {sweep}": "{value} em {sweep}",
    "Loss from {first:.4f} in epoch 1 to {last:.4f} in epoch {epochs}": (
        "Perda de {first:.4f} na época 1 a {last:.4f} na época {epochs}"
    ),
    "no epoch": "nenhuma época",
    "not set": "não definido",
    "no rule": "sem regra",
    "completed": "concluída",
    "diverged": "divergiu",
    "interrupted": "interrompida",
    "failed": "falhou",
    "trainer.loss_threshold reached": "trainer.loss_threshold atingido",
    "trainer.max_examples reached": "trainer.max_examples atingido",
    "all targets reached": "todas as metas atingidas",
}
