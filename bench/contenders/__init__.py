"""Every contender by its family name."""

from collections.abc import Mapping

from bench.contenders.base import Certificate, Contender, Options, SmallRequest
from bench.contenders.floor import Floor
from bench.contenders.forebay import Forebay, ForebayUnderUvicorn
from bench.contenders.irondrop import IronDrop
from bench.contenders.nginx import Nginx, NginxTuned
from bench.contenders.python_peers import FastApi, Tuspyserver, Uvicorn
from bench.contenders.tus_servers import Rustus, Tusd, TusNode

CLASSES: tuple[type[Contender], ...] = (
    Floor,
    Forebay,
    ForebayUnderUvicorn,
    Nginx,
    NginxTuned,
    Tusd,
    Uvicorn,
    Tuspyserver,
    FastApi,
    TusNode,
    Rustus,
    IronDrop,
)
CONTENDERS: Mapping[str, type[Contender]] = {kind.family: kind for kind in CLASSES}

__all__ = ["CONTENDERS", "Certificate", "Contender", "Options", "SmallRequest"]
