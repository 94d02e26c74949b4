"""One tree of errors, each with a stable code. No HTTP status lives here.

    ForebayError
    ├── ConfigError               a setting is wrong; the message names it
    └── UploadError               anything that ends or refuses one request
        ├── Refused               the request cannot be accepted as it is
        │   ├── InvalidRequest, InvalidName, InvalidField, ...
        │   ├── InvalidForm
        │   │   └── MissingField  a KeyError too
        │   ├── NameTaken, PreconditionFailed, NotFound, ...
        │   └── TooLarge, LengthRequired, UnsupportedCoding, ...
        ├── BodyFailed            the body did not arrive as announced
        │   ├── IncompleteBody, MalformedBody, BodyTimeout, TooSlow
        │   └── DigestMismatch, UndecodableBody
        ├── HookFailed            a callback of the application gave no clear answer
        ├── OutOfMemory           this process got no more memory
        ├── Interrupted           this server ended it: take-over, drain
        │   └── LeaseLost         another node took the upload over
        └── StorageError          the store or the state database failed
            ├── DiskFull, QuotaExceeded, StorageDenied, NoDescriptors
            ├── StorageBusy, SyncFailed, StorageFailed
            └── StorageUnavailable, SessionsUnavailable

`code` never changes once released; programs may compare it. `message` is for people and says
what to do. `detail` holds values that a protocol may send as header fields, such as an expected
offset or the seconds to wait. Statuses are in `forebay.protocol.status`; causes and remedies of
each code are in `docs/troubleshooting.md`.
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar


class ForebayError(Exception):
    """The root of all errors that Forebay raises on purpose."""

    code: ClassVar[str] = "FB_ERROR"
    default: ClassVar[str] = "Something went wrong."
    """The message when none is given."""

    def __init__(self, message: str | None = None, /, **detail: Any) -> None:
        self.message = message or self.default
        self.detail = detail
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


class ConfigError(ForebayError):
    """A setting has a value that cannot be used. Raised before anything is opened."""

    code = "FB_CONFIG"
    default = "A setting is wrong."


class UploadError(ForebayError):
    """Refuses or ends one request; all others go on."""

    code = "FB_UPLOAD"
    default = "The upload failed."


# --- refused: nothing was stored -----------------------------------------------------------


class Refused(UploadError):
    """The request cannot be accepted as it is; nothing of it is stored."""

    code = "FB_REFUSED"
    default = "The request was refused."


class InvalidRequest(Refused):
    """The request breaks the rules of HTTP or of the protocol it uses."""

    code = "FB_INVALID_REQUEST"
    default = "The request cannot be understood."


class HeadTooLarge(InvalidRequest):
    """The request line and header fields together exceed `max_head`."""

    code = "FB_HEAD_TOO_LARGE"
    default = "The request head is too large (--max-head)."


class UnknownTransferCoding(InvalidRequest):
    """Transfer-Encoding is something other than `chunked`."""

    code = "FB_UNKNOWN_TRANSFER_CODING"
    default = "Only the transfer coding 'chunked' is understood."


class InvalidField(Refused):
    """A header field is malformed, repeated, or has a value that is not allowed."""

    code = "FB_INVALID_FIELD"
    default = "A header field has a value that cannot be used."


class InvalidName(Refused):
    """A file name is not allowed (invariant 8)."""

    code = "FB_INVALID_NAME"
    default = "That file name cannot be used."


class InvalidForm(Refused):
    """A form is not what its route declares. `detail["problems"]`: a list of dictionaries with
    `type`, `loc`, `msg` and `input`, as in pydantic and FastAPI.
    """

    code = "FB_INVALID_FORM"
    default = "The form is not what is expected here."


class MissingField(InvalidForm, KeyError):
    """A handler asked for a field that the form does not have."""

    code = "FB_MISSING_FIELD"
    default = "The form has no such field."


class NotAuthenticated(Refused):
    """The request has no valid credentials. `detail["challenge"]`: for WWW-Authenticate."""

    code = "FB_NOT_AUTHENTICATED"
    default = "Credentials are needed for this."


class Forbidden(Refused):
    """The client may not do this."""

    code = "FB_FORBIDDEN"
    default = "You are not allowed to do this."


class OriginRefused(Refused):
    """A web page of another origin sent the request (invariant 15)."""

    code = "FB_ORIGIN_REFUSED"
    default = "Pages of that origin may not use this server; allow it with --allow-origin."


class HostRefused(Refused):
    """The request is for a host name that this server does not answer to."""

    code = "FB_HOST_REFUSED"
    default = "This server does not answer for that host; allow it with --allow-host."


class NotFound(Refused):
    """There is no such file, folder or upload."""

    code = "FB_NOT_FOUND"
    default = "There is nothing here."


class Gone(Refused):
    """The upload existed and has ended."""

    code = "FB_GONE"
    default = "This upload has ended; start a new one."


class MethodNotAllowed(Refused):
    """The resource does not have that method. `detail["allow"]`: the methods it has."""

    code = "FB_METHOD_NOT_ALLOWED"
    default = "That method cannot be used here."


class MethodUnknown(Refused):
    """No resource here has that method."""

    code = "FB_METHOD_UNKNOWN"
    default = "That method is used for nothing here."


class NameTaken(Refused):
    """A file of that name exists, and the policy is to refuse."""

    code = "FB_NAME_TAKEN"
    default = "A file of that name exists; choose another name or ask for replacement."


class NotAFolder(Refused):
    """A file or link stands where the path needs a folder."""

    code = "FB_NOT_A_FOLDER"
    default = "A part of the path is a file or a link and cannot hold other files."


class PreconditionFailed(Refused):
    """A condition such as If-Match does not hold (RFC 9110, section 13)."""

    code = "FB_PRECONDITION_FAILED"
    default = "The file is not in the state that the request asks for."


class RangeNotSatisfiable(Refused):
    """No byte of the file is in the requested ranges. `detail["size"]`: the bytes it has."""

    code = "FB_RANGE_NOT_SATISFIABLE"
    default = "The file has no such range."


class NotOffered(Refused):
    """The feature is switched off; the message names the setting."""

    code = "FB_NOT_OFFERED"
    default = "This server does not offer that."


class LengthRequired(Refused):
    """The request needs a Content-Length, as when `require_length` is set."""

    code = "FB_LENGTH_REQUIRED"
    default = "This server needs a Content-Length."


class TooLarge(Refused):
    """The body or file is larger than a limit. `detail["limit"]`: the limit in bytes."""

    code = "FB_TOO_LARGE"
    default = "The body is larger than this server takes (--max-size)."


class UnsupportedMediaType(Refused):
    """The media type of the body is not accepted."""

    code = "FB_UNSUPPORTED_MEDIA_TYPE"
    default = "That media type is not accepted here."


class UnsupportedCoding(Refused):
    """The content coding of the body is not accepted. `detail["accept"]`: those that are."""

    code = "FB_UNSUPPORTED_CODING"
    default = "Send the body without Content-Encoding (it is decoded with --decode-request)."


class TooManyUploads(Refused):
    """`max_uploads` are running. `detail["retry_after"]`: seconds to wait."""

    code = "FB_TOO_MANY_UPLOADS"
    default = "Too many uploads are running (--max-uploads); try again soon."


class TooManyUnfinished(Refused):
    """`max_unfinished` uploads exist. `detail["retry_after"]`: seconds to wait."""

    code = "FB_TOO_MANY_UNFINISHED"
    default = "Too many uploads are unfinished (--max-unfinished); try again later."


class ShuttingDown(Refused):
    """The server accepts nothing new any more. `detail["retry_after"]`: seconds to wait."""

    code = "FB_SHUTTING_DOWN"
    default = "The server is shutting down; try again soon."


class OffsetMismatch(Refused):
    """An append does not begin where the upload ends. `detail["expected"]`, `detail["provided"]`:
    offsets in bytes.
    """

    code = "FB_OFFSET_MISMATCH"
    default = "The upload continues at another offset."


class InconsistentLength(Refused):
    """A request gives another length of the upload than an earlier one."""

    code = "FB_INCONSISTENT_LENGTH"
    default = "The length of the upload was given as another one before."


class UploadBusy(Refused):
    """Another request has the lock on this upload and did not release it in time."""

    code = "FB_UPLOAD_BUSY"
    default = "Another request is writing to this upload; try again soon."


class UploadExists(Refused):
    """There is an unfinished upload of the same name. `detail["expected"]`: its offset."""

    code = "FB_UPLOAD_EXISTS"
    default = "An upload of that name is under way; go on with it, or cancel it first."


class WrongState(Refused):
    """The upload is in a state that does not allow this. `detail["state"]`: that state."""

    code = "FB_WRONG_STATE"
    default = "The upload is in a state that does not allow this."


class AlreadyExists(Refused):
    """A new random id exists already: a defect, or a bad source of random numbers."""

    code = "FB_ALREADY_EXISTS"
    default = "An upload with that id exists."


class VerificationRefused(Refused):
    """`on_verify` refused the file. The message is the application's own."""

    code = "FB_VERIFICATION_REFUSED"
    default = "The file was refused."


# --- the body did not arrive as announced --------------------------------------------------


class BodyFailed(UploadError):
    """The body was not what its head announced."""

    code = "FB_BODY_FAILED"
    default = "The body did not arrive whole."


class IncompleteBody(BodyFailed):
    """The client disconnected, or ended the body before its announced length."""

    code = "FB_INCOMPLETE_BODY"
    default = "The connection ended before the body did."


class MalformedBody(BodyFailed):
    """The body breaks the rules of its transfer coding or of multipart."""

    code = "FB_MALFORMED_BODY"
    default = "The body is not framed as its transfer coding requires."


class BodyTimeout(BodyFailed):
    """Nothing of the body arrived for `body_timeout` seconds."""

    code = "FB_BODY_TIMEOUT"
    default = "No byte of the body arrived for too long (--body-timeout)."


class HeadTimeout(BodyFailed):
    """The request head did not arrive within `head_timeout` seconds."""

    code = "FB_HEAD_TIMEOUT"
    default = "The request head did not arrive in time (--head-timeout)."


class TooSlow(BodyFailed):
    """The body arrived more slowly than `min_rate`."""

    code = "FB_TOO_SLOW"
    default = "The body arrived more slowly than this server allows (--min-rate)."


class DigestMismatch(BodyFailed):
    """A digest does not match. `detail["algorithm"]`: the first one that does not."""

    code = "FB_DIGEST_MISMATCH"
    default = "The bytes that arrived do not have the digest that was announced."


class UndecodableBody(BodyFailed):
    """The body is not what its Content-Encoding says."""

    code = "FB_UNDECODABLE_BODY"
    default = "The body cannot be decoded as its Content-Encoding says."


class HookFailed(UploadError):
    """A callback of the application returned something unusable; the log says what."""

    code = "FB_HOOK_FAILED"
    default = "The application could not decide about this request; nothing was stored."


class OutOfMemory(UploadError):
    """The process got no more memory. `detail["retry_after"]`: seconds to wait."""

    code = "FB_OUT_OF_MEMORY"
    default = "The server has no memory for this request; try again soon."


class Interrupted(UploadError):
    """This server ended the request: a newer one took over, or the process drains."""

    code = "FB_INTERRUPTED"
    default = "The upload was interrupted; ask for its offset and go on."


class LeaseLost(Interrupted):
    """Another node took over the right to change this upload. The change that raised it was not
    recorded, and nothing may be recorded or read under this lease any more.
    """

    code = "FB_LEASE_LOST"
    default = "Another server took over this upload; ask for its offset and go on."


# --- storage -------------------------------------------------------------------------------


class StorageError(UploadError):
    """The store or the state database failed."""

    code = "FB_STORAGE"
    default = "The file could not be stored."


class DiskFull(StorageError):
    """The disk is full, counting the room that `min_free` reserves."""

    code = "FB_DISK_FULL"
    default = "There is not enough room on the disk (--min-free)."


class QuotaExceeded(StorageError):
    """The disk quota of the server's user is used up."""

    code = "FB_QUOTA_EXCEEDED"
    default = "The disk quota is used up."


class StorageDenied(StorageError):
    """The server lacks a permission, or the filesystem is read-only."""

    code = "FB_STORAGE_DENIED"
    default = "The server may not write to its folder; its operator must give it permission."


class NoDescriptors(StorageError):
    """The process has no free file descriptor. `detail["retry_after"]`: seconds to wait."""

    code = "FB_NO_DESCRIPTORS"
    default = "The server has no free file descriptors; try again soon."


class StorageBusy(StorageError):
    """Another process holds the lock on names for too long. `detail["retry_after"]`: seconds to
    wait.
    """

    code = "FB_STORAGE_BUSY"
    default = "Another server process holds the lock on names for too long; try again soon."


class SyncFailed(StorageError):
    """A sync failed: the data is not trusted, and sync is not tried again (invariant 12)."""

    code = "FB_SYNC_FAILED"
    default = "The disk did not confirm the data; nothing was stored. Send the file again."


class StorageFailed(StorageError):
    """The disk reported an error, or data of an upload is missing."""

    code = "FB_STORAGE_FAILED"
    default = "The disk reported an error; nothing was stored."


class StorageUnavailable(StorageError):
    """The store did not answer in time. Whether it did what was asked is unknown: repeat it, or
    ask for the state. `detail["retry_after"]`: seconds to wait.
    """

    code = "FB_STORAGE_UNAVAILABLE"
    default = "The storage did not answer in time; try again soon."


class SessionsUnavailable(StorageError):
    """The upload state cannot be reached. `detail["retry_after"]`: seconds to wait."""

    code = "FB_SESSIONS_UNAVAILABLE"
    default = "The upload state cannot be reached; try again soon."


_BY_ERRNO: dict[int, type[StorageError]] = {
    errno.ENOSPC: DiskFull,
    errno.EDQUOT: QuotaExceeded,
    errno.EACCES: StorageDenied,
    errno.EPERM: StorageDenied,
    errno.EROFS: StorageDenied,
    errno.EMFILE: NoDescriptors,
    errno.ENFILE: NoDescriptors,
}


def from_os_error(error: OSError, *, reading: bool = False) -> UploadError:
    """The error of this tree for an `OSError` (invariant 13).

    `reading`: it was raised while an existing file or folder was read.
    """
    number = error.errno or 0
    if number == errno.EFBIG:
        return TooLarge("The filesystem cannot hold a file of that size.")
    if number == errno.ENAMETOOLONG:
        return InvalidName("The file name is too long.")
    kind = _BY_ERRNO.get(number, StorageFailed)
    if reading and kind is StorageDenied:
        return StorageDenied(
            "The server may not read that file or folder; its operator must give it permission.",
            errno=number,
        )
    detail = {"retry_after": 1} if kind is NoDescriptors else {}
    return kind(**detail, errno=number)
