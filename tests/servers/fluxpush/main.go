// Package main pushes a directory as `flux push artifact` does, with the client that Flux itself uses.
//
// fluxpush oci://HOST/REPOSITORY:TAG DIRECTORY REVISION
//
// It is the anchor of the push benchmark: the same packing, media types and uploads as Flux's command,
// without the parts of its command line that have nothing to do with a push.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/fluxcd/pkg/oci"
	"github.com/google/go-containerregistry/pkg/crane"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: fluxpush oci://HOST/REPOSITORY:TAG DIRECTORY REVISION")
		os.Exit(2)
	}
	digest, err := push(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

func push(reference, directory, revision string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	client := oci.NewClient([]crane.Option{crane.WithUserAgent("flux/v2"), crane.Insecure})
	meta := oci.Metadata{Source: "https://git.example/acme/bench", Revision: revision}
	url := strings.TrimPrefix(reference, "oci://")
	return client.Push(ctx, url, directory, oci.WithPushMetadata(meta))
}
