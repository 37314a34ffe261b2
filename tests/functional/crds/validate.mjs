// Validates the JSON list of custom resources on standard input; prints what is wrong, one line each.
import { readFileSync } from "node:fs";

const packages = {
  "keda.sh": "keda",
  "gateway.networking.k8s.io": "gateway-api",
  "networking.gke.io": "gke",
};

for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const [group] = object.apiVersion.split("/");
  const known = await import(`@kubernetes-models/${packages[group]}/${object.apiVersion}`);
  try {
    new known[object.kind](object).validate();
    console.log(`${object.kind}: ok`);
  } catch (error) {
    console.log(`${object.kind}: ${error.message}`);
  }
}
