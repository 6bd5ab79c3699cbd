package s3test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Credentials and region of the server.
const (
	AccessKey = "npcnix-test-access"
	SecretKey = "npcnix-test-secret-key" //nolint:gosec // of a throw-away server on loopback
	Region    = "eu-test-1"
)

// startLimit bounds the server's start.
const startLimit = 30 * time.Second

// Server is a running S3 server.
type Server struct {
	Endpoint string
	dir      string
	process  *exec.Cmd
}

// Start starts a server on a free port of loopback. It needs the versitygw
// that `make tools` builds, or one named by NPCNIX_VERSITYGW.
func Start(ctx context.Context) (*Server, error) { return StartOn(ctx, "127.0.0.1") }

// StartOn is Start on another address of this machine.
func StartOn(ctx context.Context, ip string) (*Server, error) {
	binary, err := binary()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "npcnix-s3-")
	if err != nil {
		return nil, fmt.Errorf("make directory for S3 server: %w", err)
	}
	for _, sub := range []string{"data", "iam", "versions"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("make directory for S3 server: %w", err)
		}
	}
	address, err := freeAddress(ctx, ip)
	if err != nil {
		return nil, err
	}
	s := &Server{Endpoint: "http://" + address, dir: dir}
	s.process = exec.Command(binary, "--port", address, "--region", Region, "--iam-dir", filepath.Join(dir, "iam"), //nolint:gosec,noctx // a test's own server, ended by Close
		"--keep-alive", "--quiet", "posix", "--versioning-dir", filepath.Join(dir, "versions"), filepath.Join(dir, "data"))
	s.process.Env = []string{"ROOT_ACCESS_KEY=" + AccessKey, "ROOT_SECRET_KEY=" + SecretKey, "HOME=" + dir}
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.process.Stderr = os.Stderr
	if err := s.process.Start(); err != nil {
		return nil, fmt.Errorf("start S3 server: %w", err)
	}
	if err := s.ready(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func binary() (string, error) {
	if path := os.Getenv("NPCNIX_VERSITYGW"); path != "" {
		return path, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find versitygw: %w", err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, ".cache", "bin", "versitygw")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no S3 server for tests: run `make tools` first, or set NPCNIX_VERSITYGW")
}

func freeAddress(ctx context.Context, ip string) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// ready waits until the server answers.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		_, err := s.client().ListBuckets(ctx, &s3.ListBucketsInput{})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("S3 server did not answer within %s: %w", startLimit, err)
		case <-ticker.C:
		}
	}
}

func (s *Server) client() *s3.Client {
	return s3.New(s3.Options{
		Region: Region, BaseEndpoint: &s.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, ""),
		HTTPClient:  &http.Client{Timeout: startLimit}, RetryMaxAttempts: 1,
	})
}

// Env returns the environment with which the SDK's own chain finds the server's credentials.
func (*Server) Env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + AccessKey, "AWS_SECRET_ACCESS_KEY=" + SecretKey}
}

// SetEnv puts Env into this process's environment.
func (s *Server) SetEnv() error {
	for _, kv := range s.Env() {
		k, v, _ := strings.Cut(kv, "=")
		if err := os.Setenv(k, v); err != nil {
			return fmt.Errorf("set %s: %w", k, err)
		}
	}
	return nil
}

// Host returns the server's address.
func (s *Server) Host() string { return strings.TrimPrefix(s.Endpoint, "http://") }

// URL returns the store URL of a prefix in a bucket.
func (s *Server) URL(bucket, prefix string) string {
	return "s3://" + bucket + "/" + prefix + "?region=" + Region + "&endpoint=" + s.Endpoint + "&pathStyle=true"
}

// NewBucket creates a bucket.
func (s *Server) NewBucket(ctx context.Context, name string) error {
	_, err := s.client().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(name)})
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	return nil
}

// Close ends the server and removes its data.
func (s *Server) Close() error {
	err := s.process.Process.Kill()
	_ = s.process.Wait() // it was killed
	return errors.Join(err, os.RemoveAll(s.dir))
}
