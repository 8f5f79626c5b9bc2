// The same small controller on Go's controller-runtime: one owned ConfigMap and a status for each Sample.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	metav1apply "k8s.io/client-go/applyconfigurations/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"k8s.io/apimachinery/pkg/labels"
)

const fieldManager = "sample-controller"

var groupVersion = schema.GroupVersion{Group: "bench.example.com", Version: "v1"}

// Sample is the kind of the benchmark: a value to copy, and whether it was copied.
type Sample struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              SampleSpec   `json:"spec,omitempty"`
	Status            SampleStatus `json:"status,omitempty"`
}

type SampleSpec struct {
	Value string `json:"value,omitempty"`
}

type SampleStatus struct {
	Value              string `json:"value,omitempty"`
	ObservedGeneration int64  `json:"observedGeneration,omitempty"`
}

type SampleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Sample `json:"items"`
}

func (s *Sample) DeepCopyObject() runtime.Object {
	copied := *s
	copied.ObjectMeta = *s.ObjectMeta.DeepCopy()
	return &copied
}

func (l *SampleList) DeepCopyObject() runtime.Object {
	copied := *l
	copied.Items = make([]Sample, len(l.Items))
	for i := range l.Items {
		copied.Items[i] = *l.Items[i].DeepCopyObject().(*Sample)
	}
	return &copied
}

type reconciler struct{ client.Client }

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var sample Sample
	if err := r.Get(ctx, request.NamespacedName, &sample); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !sample.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	var child corev1.ConfigMap
	err := r.Get(ctx, request.NamespacedName, &child)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	if err != nil || child.Data["value"] != sample.Spec.Value {
		owner := metav1apply.OwnerReference().WithAPIVersion(groupVersion.String()).WithKind("Sample").
			WithName(sample.Name).WithUID(sample.UID).WithController(true).WithBlockOwnerDeletion(true)
		desired := corev1apply.ConfigMap(sample.Name, sample.Namespace).
			WithLabels(map[string]string{"app": "sample"}).WithOwnerReferences(owner).
			WithData(map[string]string{"value": sample.Spec.Value})
		if err := r.Apply(ctx, desired, client.FieldOwner(fieldManager), client.ForceOwnership); err != nil {
			return ctrl.Result{}, err
		}
	}
	if sample.Status.Value != sample.Spec.Value || sample.Status.ObservedGeneration != sample.Generation {
		desired := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": groupVersion.String(),
			"kind":       "Sample",
			"metadata":   map[string]any{"name": sample.Name, "namespace": sample.Namespace},
			"status":     map[string]any{"value": sample.Spec.Value, "observedGeneration": sample.Generation},
		}}
		return ctrl.Result{}, r.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(desired),
			client.FieldOwner(fieldManager), client.ForceOwnership)
	}
	return ctrl.Result{}, nil
}

func run() error {
	kubeconfig := flag.String("kubeconfig-file", "", "path of the kubeconfig")
	namespace := flag.String("namespace", "", "the only namespace to watch")
	workers := flag.Int("workers", 10, "reconciles at once")
	metrics := flag.String("metrics-address", "0", "host:port for /metrics, and lead by a Lease; 0: neither")
	flag.Parse()
	ctrl.SetLogger(zap.New())

	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	scheme.AddKnownTypes(groupVersion, &Sample{}, &SampleList{})
	metav1.AddToGroupVersion(scheme, groupVersion)

	var config *rest.Config
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1 // no limit on the client's side
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  scheme,
		Metrics: metricsserver.Options{BindAddress: *metrics},

		LeaderElection:          *metrics != "0",
		LeaderElectionID:        "sample",
		LeaderElectionNamespace: *namespace,
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{*namespace: {}},
			ByObject: map[client.Object]cache.ByObject{
				&corev1.ConfigMap{}: {Label: labels.SelectorFromSet(labels.Set{"app": "sample"})},
			},
		},
	})
	if err != nil {
		return err
	}
	err = ctrl.NewControllerManagedBy(manager).
		For(&Sample{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&corev1.ConfigMap{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: *workers}).
		Complete(&reconciler{manager.GetClient()})
	if err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
