package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/npcnix/npcnix/store"
)

// stallTimeout is how long a body may bring nothing before it is given up.
const stallTimeout = 30 * time.Second

// Store is the part of a bucket below a prefix.
type Store struct {
	client         *s3.Client
	credentials    *renewable
	clock          *clock
	bucket, prefix string
	stall          time.Duration
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Clocked = (*Store)(nil)
)

// New returns the store at loc. It asks nothing of the network but what the
// credential chain does.
func New(ctx context.Context, loc store.Location) (*Store, error) {
	cfg, err := load(ctx, loc.Region)
	if err != nil {
		return nil, err
	}
	credentials := &renewable{present: cfg.Credentials, load: func(ctx context.Context) (aws.CredentialsProvider, error) {
		fresh, err := load(ctx, loc.Region)
		return fresh.Credentials, err
	}}
	watched := &clock{HTTPClient: stayingClient(cfg.HTTPClient)}
	return &Store{
		client: newClient(cfg, loc, credentials, watched), credentials: credentials, clock: watched,
		bucket: loc.Bucket, prefix: loc.Prefix, stall: stallTimeout,
	}, nil
}

// Get reads an object.
func (s *Store) Get(ctx context.Context, key string, opts store.GetOptions) (*store.Object, error) {
	if err := store.ValidateKey(key); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	in := &s3.GetObjectInput{Bucket: &s.bucket, Key: s.key(key), IfMatch: optional(opts.IfMatch), IfNoneMatch: optional(opts.IfNoneMatch)}
	if opts.Offset > 0 || opts.Length > 0 {
		in.Range = aws.String(byteRange(opts.Offset, opts.Length))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	out, err := renewed(s, func() (*s3.GetObjectOutput, error) { return s.client.GetObject(ctx, in) })
	if err != nil {
		cancel(nil)
		return nil, s.fail(ctx, "get", key, err)
	}
	body := watch(out.Body, s.stall, cancel)
	size, err := wholeSize(out, opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("get %s: %w", key, err), body.Close())
	}
	info := store.Info{Key: key, ETag: aws.ToString(out.ETag), Size: size, LastModified: aws.ToTime(out.LastModified)}
	return &store.Object{Info: info, Body: body}, nil
}

// wholeSize returns the size of the whole object, and an error for an answer
// that is not what was asked for: a part of it must begin where it should.
func wholeSize(out *s3.GetObjectOutput, opts store.GetOptions) (int64, error) {
	if out.ContentLength == nil {
		return 0, errors.New("the store does not say how long the answer is")
	}
	first, total, part := contentRange(aws.ToString(out.ContentRange))
	switch {
	case part && first == opts.Offset:
		return total, nil
	case part || opts.Offset > 0 || opts.Length > 0:
		return 0, fmt.Errorf("the store answered with the range %q, bytes from %d were asked for", aws.ToString(out.ContentRange), opts.Offset)
	default:
		return *out.ContentLength, nil
	}
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (store.Info, error) {
	if err := store.ValidateKey(key); err != nil {
		return store.Info{}, fmt.Errorf("stat %s: %w", key, err)
	}
	out, err := renewed(s, func() (*s3.HeadObjectOutput, error) {
		return s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: s.key(key)})
	})
	if err != nil {
		return store.Info{}, s.fail(ctx, "stat", key, err)
	}
	return store.Info{
		Key: key, ETag: aws.ToString(out.ETag),
		Size: aws.ToInt64(out.ContentLength), LastModified: aws.ToTime(out.LastModified),
	}, nil
}

// List yields the objects below prefix.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: aws.String(s.prefix + prefix)})
		for pages.HasMorePages() {
			page, err := renewed(s, func() (*s3.ListObjectsV2Output, error) { return pages.NextPage(ctx) })
			if err != nil {
				yield(store.Info{}, s.fail(ctx, "list", prefix, err))
				return
			}
			for _, o := range page.Contents {
				key := strings.TrimPrefix(aws.ToString(o.Key), s.prefix)
				if store.ValidateKey(key) != nil {
					continue // a folder's placeholder, or not ours
				}
				info := store.Info{Key: key, ETag: aws.ToString(o.ETag), Size: aws.ToInt64(o.Size), LastModified: aws.ToTime(o.LastModified)}
				if !yield(info, nil) {
					return
				}
			}
		}
	}
}

// Put writes an object.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, opts store.PutOptions) (string, error) {
	if err := store.ValidateKey(key); err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	in := &s3.PutObjectInput{Bucket: &s.bucket, Key: s.key(key), Body: body, IfMatch: optional(opts.IfMatch)}
	if opts.IfAbsent {
		in.IfNoneMatch = aws.String("*")
	}
	out, err := renewed(s, func() (*s3.PutObjectOutput, error) {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return nil, err //nolint:wrapcheck // wrapped by fail
		}
		return s.client.PutObject(ctx, in)
	})
	if err != nil {
		err = s.fail(ctx, "put", key, err)
		if opts.IfMatch != "" && errors.Is(err, store.ErrNotFound) {
			return "", fmt.Errorf("put %s: %w: it is gone", key, store.ErrConflict)
		}
		return "", err
	}
	return aws.ToString(out.ETag), nil
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := store.ValidateKey(key); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	_, err := renewed(s, func() (*s3.DeleteObjectOutput, error) {
		return s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: s.key(key)})
	})
	if err != nil {
		err = s.fail(ctx, "delete", key, err)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
	}
	return err
}

func (s *Store) key(key string) *string { return aws.String(s.prefix + key) }

func optional(etag string) *string {
	if etag == "" {
		return nil
	}
	return &etag
}

func byteRange(offset, length int64) string {
	if length == 0 {
		return fmt.Sprintf("bytes=%d-", offset)
	}
	return fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)
}

// contentRange reads a Content-Range such as "bytes 2-5/10".
func contentRange(header string) (first, total int64, ok bool) {
	var last int64
	n, err := fmt.Sscanf(header, "bytes %d-%d/%d", &first, &last, &total)
	return first, total, err == nil && n == 3
}
