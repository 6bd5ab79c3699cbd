package store

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Errors that every driver returns, wrapped with the operation and the key.
// Any other error means that the store could not be asked.
var (
	// ErrNotFound: there is no object of that key.
	ErrNotFound = errors.New("not found")
	// ErrNotModified: the object still has the ETag given as IfNoneMatch.
	ErrNotModified = errors.New("not modified")
	// ErrConflict: the object is not what the precondition asks for. After a
	// lost reply that can be one's own success: read back and compare.
	ErrConflict = errors.New("conflict")
	// ErrAccessDenied: the credentials do not allow it. A missing key may be
	// told so to a caller that may not list.
	ErrAccessDenied = errors.New("access denied")
	// ErrUnauthorized: the credentials are not valid: unknown, expired, revoked,
	// or the clock is too wrong to sign with.
	ErrUnauthorized = errors.New("credentials are not valid")
	// ErrBucketNotFound: the bucket, or the directory, does not exist.
	ErrBucketNotFound = errors.New("bucket not found")
	// ErrInvalidKey: no driver can store that key, or not beside those there are.
	ErrInvalidKey = errors.New("invalid key")
	// ErrInvalidRange: the object is shorter than the range's begin.
	ErrInvalidRange = errors.New("invalid range")
	// ErrTooLarge: the object is larger than its reader allows.
	ErrTooLarge = errors.New("too large")
)

// Info describes an object.
type Info struct {
	Key string
	// ETag names the object's content. It is compared for equality and sent
	// back byte for byte; it is no checksum, repeats when bytes repeat, and
	// may change when they do not.
	ETag string
	// Size is the length of the whole object in bytes.
	Size int64
	// LastModified is the last Put by the store's own clock.
	LastModified time.Time
}

// Object is an object that is being read. The caller closes Body. A body that
// ends before its time returns io.ErrUnexpectedEOF or a transport error, never io.EOF.
type Object struct {
	Info

	Body io.ReadCloser
}

// GetOptions are the conditions of a Get. The zero value reads the whole object.
type GetOptions struct {
	// IfNoneMatch, if set, makes Get return ErrNotModified while the object has that ETag.
	IfNoneMatch string
	// IfMatch, if set, makes Get return ErrConflict unless the object has that ETag.
	IfMatch string
	// Offset is the first byte to read.
	Offset int64
	// Length is the number of bytes to read; 0 reads to the end.
	Length int64
}

// PutOptions are the preconditions of a Put, decided by the store in one step
// with the write. The zero value replaces whatever is there.
type PutOptions struct {
	// IfAbsent makes Put return ErrConflict if the object exists.
	IfAbsent bool
	// IfMatch, if set, makes Put return ErrConflict unless the object has that
	// ETag, also when it does not exist.
	IfMatch string
}

// Clocked is a store whose answers tell its server's time.
type Clocked interface {
	// Skew is how far the server's clock was ahead of this machine's at the
	// newest answer; negative if it was behind. known is false while no answer
	// told the time. It is exact to a second, and to how long an answer takes.
	Skew() (skew time.Duration, known bool)
}

// Store is an object store, or the part of one below a prefix. Implementations
// are safe for concurrent use. Reads see every Put that returned before they
// began. Keys are as ValidateKey says.
type Store interface {
	// Get reads an object.
	Get(ctx context.Context, key string, opts GetOptions) (*Object, error)
	// Stat describes an object without reading it.
	Stat(ctx context.Context, key string) (Info, error)
	// List yields the objects whose keys begin with prefix, sorted by key. It
	// ends after the first error.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
	// Put writes an object, whole or not at all, and returns its ETag.
	Put(ctx context.Context, key string, body io.ReadSeeker, opts PutOptions) (etag string, err error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, key string) error
}
