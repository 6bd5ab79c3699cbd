// Bareloop is what an idle agent is measured against: three conditional GETs a
// second with nothing but the SDK. Its arguments are a bucket, an endpoint and
// three keys.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

func main() {
	ctx := context.Background()
	bucket, endpoint, keys := os.Args[1], os.Args[2], os.Args[3:]
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = &endpoint, true })
	etags := map[string]*string{}
	for range time.Tick(time.Second) {
		for _, key := range keys {
			out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: aws.String(key), IfNoneMatch: etags[key]})
			var answer *smithyhttp.ResponseError
			switch {
			case errors.As(err, &answer): // 304 or 404
			case err != nil:
				fmt.Fprintln(os.Stderr, err)
			default:
				_, _ = io.Copy(io.Discard, out.Body)
				_ = out.Body.Close()
				etags[key] = out.ETag
			}
		}
	}
}
