"""One small file to manifests for every target, checked before they are written; and what watches over them."""
