// yamloracle answers what kubectl reads in a file: one JSON line in, one JSON line out.
//
// The file is cut into documents as kubectl's resource builder does it (k8s.io/apimachinery/pkg/util/yaml: a
// stream of JSON values first, if it looks like one, then YAML cut at lines that begin with ---). Each YAML
// document is read by sigs.k8s.io/yaml in strict mode, each JSON value by sigs.k8s.io/json in strict mode.
// kubectl's own decoder, which is not strict, reads the file as well: where strict finds no fault both must agree.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	yamlv2 "go.yaml.in/yaml/v2"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

type question struct {
	Data []byte `json:"data"` // base64
}

type answer struct {
	Documents []json.RawMessage `json:"documents"` // without empty ones
	Error     string            `json:"error,omitempty"`
	// Documents that have no single meaning, or lose something without a word.
	Dropped  bool `json:"dropped,omitempty"`  // text behind the end of a document is ignored
	Collides bool `json:"collides,omitempty"` // two keys become the same string: which value stays is random
	Replaced bool `json:"replaced,omitempty"` // bytes that are no text became U+FFFD
	// kubectl's own decoder disagrees although strict mode found nothing.
	Disagrees bool `json:"disagrees,omitempty"`
}

func main() {
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for {
		var asked question
		if err := in.Decode(&asked); err == io.EOF {
			return
		} else if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := out.Encode(read(asked.Data)); err != nil {
			os.Exit(1)
		}
	}
}

func read(data []byte) answer {
	said := answer{Documents: []json.RawMessage{}}
	if err := said.documents(data); err != nil {
		said.Documents, said.Error = nil, err.Error()
	}
	if said.Error == "" && !said.Dropped && !said.Collides {
		lenient, err := kubectl(data)
		said.Disagrees = err != nil || !bytes.Equal(joined(lenient), joined(canonical(said.Documents)))
	}
	text := joined(said.Documents)
	said.Replaced = (bytes.ContainsRune(text, unicode.ReplacementChar) || bytes.Contains(text, []byte(`\ufffd`))) &&
		!bytes.ContainsRune(data, unicode.ReplacementChar) && !bytes.Contains(bytes.ToLower(data), []byte("fffd"))
	return said
}

// documents follows YAMLOrJSONDecoder.Decode, with strict readers in place of the lenient ones.
func (said *answer) documents(data []byte) error {
	_, _, looksLikeJSON := utilyaml.GuessJSONStream(bytes.NewReader(data), 4096)
	rest := data
	if looksLikeJSON {
		decoder := json.NewDecoder(bytes.NewReader(data))
		for count := 0; ; count++ {
			var raw json.RawMessage
			err := decoder.Decode(&raw)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				var isYAML bool
				if rest, isYAML = afterSpace(rest); count > 1 || !isYAML {
					return err
				}
				break
			}
			if err := said.addJSON(raw); err != nil {
				return err
			}
			rest = data[decoder.InputOffset():]
		}
	}
	chunks := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(rest)))
	for {
		chunk, err := chunks.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := said.addYAML(chunk); err != nil {
			return err
		}
	}
}

// afterSpace follows YAMLOrJSONDecoder.consumeWhitespace, which wants four bytes wherever it looks.
func afterSpace(data []byte) ([]byte, bool) {
	for len(data) >= 4 {
		char, size := utf8.DecodeRune(data)
		if char == utf8.RuneError {
			return nil, false
		}
		if !unicode.IsSpace(char) {
			return data, true
		}
		data = data[size:]
		if char == '\n' {
			return data, true
		}
	}
	return nil, false
}

func (said *answer) addYAML(chunk []byte) error {
	value, err := yaml.YAMLToJSONStrict(chunk)
	if err != nil {
		return err
	}
	var tree any
	decoder := yamlv2.NewDecoder(bytes.NewReader(chunk))
	if err := decoder.Decode(&tree); err == nil {
		said.Collides = said.Collides || collides(tree)
		said.Dropped = said.Dropped || decoder.Decode(&tree) != io.EOF
	}
	said.add(value)
	return nil
}

func (said *answer) addJSON(raw json.RawMessage) error {
	var value any
	faults, err := kjson.UnmarshalStrict(raw, &value)
	if err == nil {
		err = errors.Join(faults...)
	}
	if err != nil {
		return err
	}
	canonical, err := canonicalJSON(raw)
	if err != nil {
		return err
	}
	said.add(canonical)
	return nil
}

func (said *answer) add(value []byte) {
	if !bytes.Equal(value, []byte("null")) {
		said.Documents = append(said.Documents, value)
	}
}

func canonical(documents []json.RawMessage) []json.RawMessage {
	all := make([]json.RawMessage, len(documents))
	for i, document := range documents {
		all[i], _ = canonicalJSON(document) // never fails: it was written by encoding/json
	}
	return all
}

func joined(documents []json.RawMessage) []byte {
	parts := make([][]byte, len(documents))
	for i, document := range documents {
		parts[i] = document
	}
	return bytes.Join(parts, []byte("\n"))
}

// kubectl reads as StreamVisitor of k8s.io/cli-runtime does.
func kubectl(data []byte) ([]json.RawMessage, error) {
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	var all []json.RawMessage
	for {
		ext := runtime.RawExtension{}
		err := decoder.Decode(&ext)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		raw := bytes.TrimSpace(ext.Raw)
		if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
			continue
		}
		canonical, err := canonicalJSON(raw)
		if err != nil {
			return nil, err
		}
		all = append(all, canonical)
	}
}

// canonicalJSON writes numbers as sigs.k8s.io/yaml does: integers of 64 bits, else float64.
func canonicalJSON(raw []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	value, err := numbers(value)
	if err != nil {
		return nil, err
	}
	return json.Marshal(value)
}

func numbers(value any) (any, error) {
	var err error
	switch typed := value.(type) {
	case map[string]any:
		for key, item := range typed {
			if typed[key], err = numbers(item); err != nil {
				return nil, err
			}
		}
	case []any:
		for i, item := range typed {
			if typed[i], err = numbers(item); err != nil {
				return nil, err
			}
		}
	case json.Number:
		if number, err := strconv.ParseInt(typed.String(), 10, 64); err == nil {
			return number, nil
		}
		if number, err := strconv.ParseUint(typed.String(), 10, 64); err == nil {
			return number, nil
		}
		number, err := strconv.ParseFloat(typed.String(), 64)
		return number + 0, err // -0 is 0
	}
	return value, nil
}

// collides tells whether sigs.k8s.io/yaml would make one string of two keys of a mapping.
func collides(value any) bool {
	switch typed := value.(type) {
	case map[any]any:
		seen := map[string]bool{}
		for key, item := range typed {
			text := fmt.Sprint(key)
			if number, ok := key.(float64); ok {
				text = strconv.FormatFloat(number, 'g', -1, 32)
				text = map[string]string{"+Inf": ".inf", "-Inf": "-.inf", "NaN": ".nan"}[text] + text
				text = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(text, "+Inf"), "-Inf"), "NaN")
			}
			if seen[text] || collides(item) {
				return true
			}
			seen[text] = true
		}
	case []any:
		for _, item := range typed {
			if collides(item) {
				return true
			}
		}
	}
	return false
}
