package store

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// maxResumes bounds how often in a row a body that broke off is taken up again.
const maxResumes = 3

// Open is Get with a body that survives breaking off: the rest is asked for
// again, of the same ETag, as long as each new answer brings something.
// Neither the drivers nor the SDK below them do that.
func Open(ctx context.Context, s Store, key string, opts GetOptions) (*Object, error) {
	obj, err := s.Get(ctx, key, opts)
	if err != nil {
		return nil, err
	}
	want := obj.Size - opts.Offset
	if opts.Length > 0 {
		want = min(want, opts.Length)
	}
	info := obj.Info
	return &Object{Info: info, Body: &resuming{
		body: obj.Body, left: want, next: opts.Offset,
		get: func(offset, length int64) (io.ReadCloser, error) {
			obj, err := s.Get(ctx, key, GetOptions{IfMatch: info.ETag, Offset: offset, Length: length})
			if err != nil {
				return nil, err
			}
			return obj.Body, nil
		},
	}}, nil
}

// resuming reads a body of known length and asks for the rest where it breaks off.
type resuming struct {
	body       io.ReadCloser
	next, left int64
	barren     int // resumes since the last byte
	get        func(offset, length int64) (io.ReadCloser, error)
}

func (r *resuming) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.body.Read(p[:min(int64(len(p)), r.left)])
	r.next += int64(n)
	r.left -= int64(n)
	if n > 0 {
		r.barren = 0
		return n, nil
	}
	if err == nil || r.left == 0 {
		return 0, err //nolint:wrapcheck // a body's own error
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if r.barren++; r.barren > maxResumes {
		return 0, fmt.Errorf("body broke off %d bytes before its end: %w", r.left, err)
	}
	body, getErr := r.get(r.next, r.left)
	if getErr != nil {
		return 0, fmt.Errorf("body broke off %d bytes before its end: %w", r.left, errors.Join(err, getErr))
	}
	_ = r.body.Close() // it is broken; the new one counts
	r.body = body
	return 0, nil
}

func (r *resuming) Close() error { return r.body.Close() } //nolint:wrapcheck // a body's own error

// ReadAll reads an object of at most limit bytes, or returns ErrTooLarge.
func ReadAll(ctx context.Context, s Store, key string, limit int64, opts GetOptions) ([]byte, Info, error) {
	obj, err := Open(ctx, s, key, opts)
	if err != nil {
		return nil, Info{}, err
	}
	defer func() { _ = obj.Body.Close() }() // read to its end or given up
	if obj.Size > limit {
		return nil, obj.Info, fmt.Errorf("get %s: %w: %d bytes, at most %d are allowed", key, ErrTooLarge, obj.Size, limit)
	}
	data, err := io.ReadAll(obj.Body)
	if err != nil {
		return nil, obj.Info, fmt.Errorf("get %s: %w", key, err)
	}
	return data, obj.Info, nil
}
