// Package main pushes and pulls as `flux push artifact` and `flux pull artifact` do, with the client that Flux
// itself uses: its command line and its source-controller extract with the same code.
//
// fluxpush oci://HOST/REPOSITORY:TAG DIRECTORY REVISION
// fluxpush pull oci://HOST/REPOSITORY:TAG DIRECTORY
//
// Pushing is the anchor of the push benchmark: the same packing, media types, default exclusions and uploads as Flux's
// command, without the parts of its command line that have nothing to do with a push.
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
		fmt.Fprintln(os.Stderr, "       fluxpush pull oci://HOST/REPOSITORY:TAG DIRECTORY")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	client := oci.NewClient([]crane.Option{crane.WithUserAgent("flux/v2"), crane.Insecure})
	var result string
	var err error
	if os.Args[1] == "pull" {
		result, err = pull(ctx, client, os.Args[2], os.Args[3])
	} else {
		result, err = push(ctx, client, os.Args[1], os.Args[2], os.Args[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(result)
}

// What `flux push artifact` leaves out unless it is told otherwise: Git's own files above all.
var excluded = []string{
	".git/", ".gitignore", ".gitmodules", ".gitattributes",
	"*.jpg", "*.jpeg", "*.gif", "*.png", "*.wmv", "*.flv", "*.tar.gz", "*.zip",
}

func push(ctx context.Context, client *oci.Client, reference, directory, revision string) (string, error) {
	meta := oci.Metadata{Source: "https://git.example/acme/bench", Revision: revision}
	return client.Push(ctx, strings.TrimPrefix(reference, "oci://"), directory, oci.WithPushMetadata(meta),
		oci.WithPushIgnorePaths(excluded...))
}

// pull extracts the first layer and answers what Flux shows of an artifact: digest and revision.
func pull(ctx context.Context, client *oci.Client, reference, directory string) (string, error) {
	meta, err := client.Pull(ctx, strings.TrimPrefix(reference, "oci://"), directory)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s", meta.Digest, meta.Revision), nil
}
