"""Django under ASGI: Forebay runs in front, as Django itself reads a body before its views run.

uvicorn --http forebay.http.direct:DirectProtocol examples.django_app:app
"""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from forebay import GB, Forbidden, Forebay, RequestHead, Upload, VerificationRefused

if not settings.configured:  # a project of yours has its settings module
    settings.configure(
        ROOT_URLCONF=__name__,
        SECRET_KEY="example",  # noqa: S106
        ALLOWED_HOSTS=["*"],
    )
    django.setup()

uploads = Forebay("data/", max_size=5 * GB)


@uploads.on_verify
def verify(upload: Upload) -> None:
    with upload.open() as file:
        if file.read(2) == b"MZ":
            raise VerificationRefused("Programs are not taken here.")


@csrf_exempt
def video(request: HttpRequest) -> JsonResponse:
    """A plain view, in a thread as usual: the file is there before it runs."""
    upload = uploads.upload_of(request)
    return JsonResponse({"name": upload.name, "size": upload.size, "sha256": upload.digest})


@csrf_exempt
def form(request: HttpRequest) -> JsonResponse:
    """The text fields are in request.POST, as Django's forms want them."""
    clip = uploads.form_of(request).files["clip"]
    return JsonResponse({"title": request.POST["title"], "clip": clip.name})


def place(head: RequestHead) -> str:
    """Decides by the head, before a byte of the body is read."""
    if head.headers.get("authorization") != "Bearer let-me-in":
        raise Forbidden("That token is not known.")
    return "checked/"


@csrf_exempt
def checked(request: HttpRequest) -> JsonResponse:
    """A response of 400 or more would remove the file again."""
    upload = uploads.upload_of(request)
    return JsonResponse({"name": upload.name, "size": upload.size})


urlpatterns = [path("videos", video), path("form", form), path("checked", checked)]

app = uploads.in_front_of(
    get_asgi_application(),
    {
        "/uploads": uploads.resumable,
        "/files": uploads.files,
        "/videos": uploads.options(to="videos/", types=["video/*"], digest="sha256"),
        "/form": uploads.form_options({"clip": "clips/"}, required=["title", "clip"]),
        "/checked": uploads.options(to=place, max_size=1 * GB),
    },
)
